"""`PreparedFile`: writes prepared data, piece by piece, so that nothing written is ever lost.

It grows under the name `NAME.partial` and is renamed when it is complete. Every piece is one
transaction of LMDB: after whatever interruption the file holds all pieces before it, and says how
far the source has been read.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import numpy as np

from mlip.data.file_lock import lock_file
from mlip.data.sources.lmdb_file import LmdbFile, make_room
from mlip.data.sources.prepared import (
    ABOUT,
    PROGRESS,
    RECORD,
    atoms_key,
    read_json,
    record_key,
)
from mlip.data.tally import Tally
from mlip.errors import MlipError
from mlip.settings import flatten

NAMED = 20  # faults of which the text is kept
HEAD = 2 * mmap.PAGESIZE  # bytes of an LMDB without entries
ROOM = 1 << 24  # bytes that a transaction may need beyond twice its records


class Piece(NamedTuple):
    """Some consecutive records of the source.

    Attributes:
        records: the usable ones, encoded.
        atoms: their sizes.
        read: how many records of the source these are.
        faults: why others were left out, one sentence each.
        tally: sums over the usable ones.
    """

    records: Sequence[bytes]
    atoms: Sequence[int]
    read: int
    faults: Sequence[str]
    tally: Tally


@dataclass
class Progress:
    """How far a file of prepared data is.

    Attributes:
        complete: nothing is left to do.
        read: records of the source that have been read.
        records: records written.
        left_out: records that could not be used.
        faults: why, for the first of them.
        tally: sums over the records written.
    """

    complete: bool = False
    read: int = 0
    records: int = 0
    left_out: int = 0
    faults: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def after(self, piece: Piece) -> Progress:
        """The progress when a piece has been added."""
        tally = Tally()
        for part in (self.tally, piece.tally):
            tally.merge(part)
        return Progress(
            read=self.read + piece.read,
            records=self.records + len(piece.records),
            left_out=self.left_out + len(piece.faults),
            faults=[*self.faults, *piece.faults][:NAMED],
            tally=tally,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "tally": self.tally.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Progress:
        """The reverse of `to_json`."""
        return cls(**{**content, "tally": Tally.from_json(content["tally"])})


class PreparedFile:
    """A file of prepared data that is being written; see `writing`.

    Attributes:
        progress: how far it is.
    """

    def __init__(self, environment: lmdb.Environment, path: Path, progress: Progress) -> None:
        self._environment, self._path = environment, path
        self.progress = progress

    def add(self, piece: Piece) -> None:
        """Write a piece, all of it or nothing.

        Raises:
            MlipError: if it cannot be written; the pieces before it are kept.
        """
        progress = self.progress.after(piece)
        entries = [
            (record_key(self.progress.records + number), record)
            for number, record in enumerate(piece.records)
        ]
        if piece.records:
            sizes = np.asarray(piece.atoms, "<i4").tobytes()
            entries.append((atoms_key(self.progress.records), sizes))
        self._write(entries, progress)

    def finish(self) -> None:
        """Mark the file as complete.

        Raises:
            MlipError: as above.
        """
        self._write([], Progress(**{**vars(self.progress), "complete": True}))

    def _write(self, entries: list[tuple[bytes, bytes]], progress: Progress) -> None:
        try:
            make_room(self._environment, 2 * sum(len(value) for _, value in entries) + ROOM)
            with self._environment.begin(write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value, append=key.startswith(RECORD))
                transaction.put(PROGRESS, json.dumps(progress.to_json()).encode())
        except (lmdb.Error, OSError) as error:
            raise _no_room(self._path, error, self.progress.read) from error
        self.progress = progress


def partial_name(output: Path) -> Path:
    """What a file is called until it is complete."""
    return output.with_name(output.name + ".partial")


@contextmanager
def writing(output: Path, about: dict[str, Any]) -> Iterator[PreparedFile]:
    """Begin a file of prepared data, or go on with it; it gets its name when it is complete.

    Args:
        output: its name.
        about: what it is made of, plain values; must be the same when it is gone on with.

    Raises:
        MlipError: if another process is at work on it, it is made of something else, or it cannot
            be written.
    """
    partial = partial_name(output)
    with _locked(partial, output):
        environment = _open(partial)
        try:
            file = PreparedFile(environment, partial, _begin(environment, partial, about))
            yield file
        finally:
            environment.close()
        if file.progress.complete:
            os.replace(partial, output)


def read_progress(path: Path, about: dict[str, Any]) -> Progress:
    """The progress of a complete file.

    Raises:
        MlipError: if it is made of something else than `about` says.
    """
    file = LmdbFile(path)
    require_same(path, read_json(file, ABOUT), about)
    return Progress.from_json(read_json(file, PROGRESS))


def require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a file that is made of something else.

    Raises:
        MlipError: naming the first difference.
    """
    before, now = flatten(found), flatten(wanted)
    for key in {**now, **before}:
        if before.get(key) != now.get(key):
            raise MlipError(
                f"{path} was begun with {key}={before.get(key)}, now {key}={now.get(key)}: the "
                "source or its settings have changed; remove the file, or choose another output."
            )


def _no_room(path: Path, error: Exception, read: int) -> MlipError:
    """What to say when a file cannot be written that holds what so many records gave."""
    safe = f": the first {read} records are safe and are not read again" if read else ""
    return MlipError(
        f"{path} cannot be written ({error}), perhaps because the disk is full; make room and "
        f"start the same command again{safe}."
    )


def _open(partial: Path) -> lmdb.Environment:
    """The LMDB of a file that is there, which may be empty."""
    if partial.stat().st_size < HEAD:
        os.truncate(partial, 0)  # interrupted before anything was written
    try:
        return lmdb.open(
            str(partial), subdir=False, lock=False, map_size=partial.stat().st_size + ROOM
        )
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        raise MlipError(f"{partial} cannot be opened ({error}); remove it.") from None
    except lmdb.Error as error:
        raise _no_room(partial, error, 0) from error


def _begin(environment: lmdb.Environment, partial: Path, about: dict[str, Any]) -> Progress:
    """The progress so far."""
    try:
        with environment.begin(write=True) as transaction:
            found = transaction.get(ABOUT)
            if found is None:
                transaction.put(ABOUT, json.dumps(about).encode())
                transaction.put(PROGRESS, json.dumps(Progress().to_json()).encode())
                return Progress()
            require_same(partial, json.loads(found), about)
            return Progress.from_json(json.loads(transaction.get(PROGRESS) or b"{}"))
    except lmdb.Error as error:
        raise _no_room(partial, error, 0) from error


@contextmanager
def _locked(partial: Path, output: Path) -> Iterator[None]:
    """Keep other processes from writing the file."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("ab")
    except OSError as error:
        raise MlipError(
            f"{partial} cannot be written ({error.strerror or error}); choose another output."
        ) from error
    busy = f"another process is preparing {output}: wait for its end, or choose another output."
    with file:
        lock_file(file, busy)
        # It may have been renamed, complete, between being opened and being locked.
        if not partial.exists() or not os.path.samestat(os.fstat(file.fileno()), partial.stat()):
            raise MlipError(f"another process has just prepared {output}.")
        yield
