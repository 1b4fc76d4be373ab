"""Keeping other processes away from a file."""

from __future__ import annotations

from typing import IO

from mlip.errors import MlipError


def lock_file(file: IO[str] | IO[bytes], message: str) -> None:
    """Lock an open file until it is closed or the process ends, however it ends.

    Where the system knows no locks, as on Windows and on some network file systems, nothing
    happens.

    Args:
        file: open for writing.
        message: of the error.

    Raises:
        MlipError: if another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MlipError(message) from None
    except OSError:  # some network file systems
        return
