"""`LmdbFile`: an LMDB opened for reading, in any thread and process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import lmdb

from mlip.data.sources.source import require_file
from mlip.errors import MlipError

RENEWAL = 100  # values read between two renewals of the mappings of a process


class _State(NamedTuple):
    """A file as it is: one that has been written or replaced since differs in this."""

    name: str
    inode: int
    size: int
    changed: int


@dataclass
class _Shared:
    """An environment that all readers of a process share, and how many read from it now."""

    environment: lmdb.Environment
    readahead: bool
    readers: int = 0


# A process may open an environment only once, and must not use one that it inherited by a fork.
_open_files: dict[_State, _Shared] = {}
_reads = count(1)
_lock = Lock()


def _forget_inherited() -> None:
    global _lock
    _lock = Lock()
    for shared in _open_files.values():
        shared.environment.close()
    _open_files.clear()


os.register_at_fork(after_in_child=_forget_inherited)


class LmdbFile:
    """Read-only access to a single-file LMDB.

    LMDB maps the file into memory, and the pages that were read count as memory of the process
    until it ends or closes the file. So that this does not grow to the size of the data, all files
    are closed after some reads, and opened anew when they are needed. The file that is read is the
    one that was there when this was made: one that replaces it needs a new `LmdbFile`.

    Args:
        path: the data file (`subdir=False`).

    Raises:
        MlipError: when the file is missing, empty, truncated or no LMDB, or when it has been
            changed since.
    """

    _in_order = 0  # how many are within `reading_in_order`

    def __init__(self, path: Path) -> None:
        self.path = path
        if not self.entries:
            raise MlipError(f"{path} is an LMDB without a single entry; download or make it again.")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @cached_property
    def _state(self) -> _State:
        return _state_of(self.path)

    @contextmanager
    def _reading(self, *, in_order: bool = False) -> Iterator[Any]:
        """A transaction; the file stays open while there is one.

        Read in order, the system may read ahead, unless others are reading from the file already.
        """
        readahead = in_order or self._in_order > 0
        with _lock:
            shared = _open_files.get(self._state)
            if shared is not None and shared.readahead != readahead:
                _close([self._state])
            if self._state not in _open_files:
                if _state_of(self.path) != self._state:
                    raise MlipError(
                        f"{self.path} has been changed or replaced while it was read; start again."
                    )
                # LMDB opens no file twice, not even one that has been written to since.
                _close([state for state in _open_files if state.name == self._state.name])
                _open_files[self._state] = _Shared(_open(self.path, readahead), readahead)
            shared = _open_files[self._state]
            shared.readers += 1
        try:
            with shared.environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise MlipError(
                f"{self.path} is damaged ({error}); download or make it again."
            ) from None
        finally:
            with _lock:
                shared.readers -= 1

    @contextmanager
    def reading_in_order(self) -> Iterator[None]:
        """Within it, `get` is asked for values in about the order of the file, read ahead."""
        with _lock:
            self._in_order += 1
        try:
            yield
        finally:
            with _lock:
                self._in_order -= 1

    @cached_property
    def entries(self) -> int:
        """Number of entries, those about the file itself included."""
        with self._reading() as transaction:
            return int(transaction.stat()["entries"])

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        if next(_reads) % RENEWAL == 0:
            close_unread()
        with self._reading() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def __iter__(self) -> Iterator[bytes]:
        """All keys, in the byte order of the file."""
        with self._reading(in_order=True) as transaction, transaction.cursor() as cursor:
            yield from cursor.iternext(keys=True, values=False)

    def items(self, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys from the first on, and their values, in the byte order of the file."""
        with self._reading(in_order=True) as transaction, transaction.cursor() as cursor:
            cursor.set_range(first)
            yield from cursor.iternext(keys=True, values=True)

    def values(self, prefix: bytes) -> Iterator[bytes]:
        """The values of all keys that begin like this, in the byte order of the keys."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            cursor.set_range(prefix)
            for key, value in cursor.iternext(keys=True, values=True):
                if not key.startswith(prefix):
                    return
                yield value


def close_unread() -> None:
    """Close all files that no thread is reading."""
    with _lock:
        _close([*_open_files])


def _close(states: Sequence[_State]) -> None:
    """Close those of some files that no thread is reading; the lock must be held."""
    for state in states:
        if not _open_files[state].readers:
            _open_files.pop(state).environment.close()


def make_room(environment: lmdb.Environment, size: int) -> None:
    """Enlarge the map of an LMDB that is written, unless so many bytes still fit into it."""
    information = environment.info()
    needed = information["last_pgno"] * environment.stat()["psize"] + size
    if needed > information["map_size"]:
        environment.set_mapsize(2 * needed)


def _state_of(path: Path) -> _State:
    require_file(path)
    found = path.stat()
    return _State(str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns)


def _open(path: Path, readahead: bool) -> lmdb.Environment:
    size = path.stat().st_size
    if not size:
        raise MlipError(f"{path} is empty; download or make it again.")
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=readahead, meminit=False
        )
    except lmdb.Error as error:
        raise MlipError(
            f"{path} cannot be read as an LMDB ({str(error).removeprefix(f'{path}: ')}); "
            "download or make it again."
        ) from None
    # LMDB maps the file into memory: reading a page behind its end would kill the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:
        environment.close()
        raise MlipError(
            f"{path} is truncated: {size} of {needed} bytes; copy or download it again."
        )
    return environment
