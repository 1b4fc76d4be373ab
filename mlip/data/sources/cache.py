"""What reading needs and is expensive to find out, kept on disk: indices, decompressed files.

An entry belongs to a file as it is: when size or time of change differ, or when it is damaged, it
is made anew. Several processes may make the same entry at once; each writes a file of its own and
renames it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from mlip.data.sources.compression import COMPRESSED, decompressed
from mlip.errors import MlipError

FOLDER_SWITCH = "MLIP_CACHE"
FORMAT = 2  # of the entries, part of their names: a change of what they hold makes all anew
SMALL = 4 << 20  # bytes of a file whose index is made in no time


def cache_folder() -> Path:
    """The folder of the entries: `~/.cache/mlip/data`, or what MLIP_CACHE names."""
    choice = os.environ.get(FOLDER_SWITCH)
    if choice:
        return Path(choice).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "mlip" / "data"


def cached_index(path: Path, kind: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """An array that describes a file, made once and mapped from disk.

    That of a small file that is not compressed is made anew by each process.

    Args:
        path: the file that it describes.
        kind: what it says about the file, part of the entry's name.
        build: makes it.

    Raises:
        MlipError: if the entry cannot be written.
    """
    if not is_kept(path):
        return build()
    entry = _entry(path, kind)
    with suppress(OSError, ValueError, EOFError):  # none is there yet, or a damaged one
        return np.load(entry, mmap_mode="r")
    array = build()
    with _writing(entry) as file:
        np.save(file, array)
    return np.load(entry, mmap_mode="r")


def is_kept(path: Path) -> bool:
    """Whether what describes a file is kept on disk."""
    return path.suffix in COMPRESSED or path.stat().st_size >= SMALL


def plain_copy(path: Path) -> Path:
    """The file itself, or its decompressed copy among the entries if it ends in .xz or .gz.

    Raises:
        MlipError: if it cannot be decompressed, or the copy cannot be written.
    """
    if path.suffix not in COMPRESSED:
        return path
    entry = _entry(path, "content")
    if not entry.exists():
        with _writing(entry) as file, decompressed(path) as content:
            shutil.copyfileobj(content, file, 1 << 20)
    return entry


def copy_if_made(path: Path) -> Path:
    """The `plain_copy` where there is one, else the file."""
    entry = _entry(path, "content")
    return entry if entry.exists() else path


def _entry(path: Path, kind: str) -> Path:
    """Where an entry belongs: a folder for the file, a name that changes when the file does."""
    path = path.resolve()
    status = path.stat()
    place = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    about = f"{FORMAT} {status.st_size} {status.st_mtime_ns}"
    state = hashlib.sha256(about.encode()).hexdigest()[:12]
    return cache_folder() / f"{path.stem}-{place}" / f"{kind}-{state}"


@contextmanager
def _writing(entry: Path) -> Iterator[IO[bytes]]:
    """A file that becomes the entry when all is written; entries of older states go."""
    part = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=entry.parent, prefix=".part-")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a name never stands for content that is not on disk
        part.replace(entry)
        for older in entry.parent.glob(f"{entry.name.rpartition('-')[0]}-*"):
            if older != entry:  # which others may be opening now
                older.unlink(missing_ok=True)
    except OSError as error:
        raise MlipError(
            f"cannot write {entry} ({error.strerror or error}); make room, or name a folder on "
            f"another disk in the environment variable {FOLDER_SWITCH}."
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
