"""Reading the containers as their formats say, without the readers of the project."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import lmdb
import pytest


@pytest.fixture(scope="session")
def entries(tmp_path_factory):
    """All (key, value) pairs of an LMDB; of a copy, as the package may have the file open."""

    def read(path: Path) -> Iterator[tuple[bytes, bytes]]:
        options = {"subdir": False, "readonly": True, "lock": False}
        copy = copyfile(path, tmp_path_factory.mktemp("copy") / path.name)
        with lmdb.open(str(copy), **options) as environment, environment.begin() as transaction:
            yield from ((bytes(key), bytes(value)) for key, value in transaction.cursor())

    return read


@pytest.fixture(scope="session")
def table():
    """Rows of the table of a README whose first cell names a file: the cells after it by name."""

    def read(readme: Path) -> dict[str, list[str]]:
        rows = [line.split("|")[1:-1] for line in readme.read_text().splitlines() if "|" in line]
        cells = [[cell.strip() for cell in row] for row in rows]
        return {row[0].strip("`"): row[1:] for row in cells if row[0].startswith("`")}

    return read
