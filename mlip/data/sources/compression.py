"""Reading .xz and .gz files, with their faults told apart from those of the disk."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from mlip.errors import MlipError

COMPRESSED = (".xz", ".gz")


@contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, compressed or not.

    Raises:
        MlipError: if the compressed data are damaged or end too early.
    """
    try:
        with _open(path) as content:
            yield content
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise MlipError(
            f"{path} is damaged or truncated ({error}); copy or download it again."
        ) from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")
