"""`Files`: the sources of a data set, each opened once, and their frames in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mlip.data.frames import Part
from mlip.data.sources.extxyz import LabelKeys, read_extxyz
from mlip.data.sources.source import BadRecordError, Source
from mlip.data.structure import Structure
from mlip.errors import MlipError


class ReadPart(NamedTuple):
    """Frames in memory.

    Attributes:
        structures: those that can be used.
        records: their numbers in the source.
        faults: why others were left out, one sentence each.
    """

    structures: list[Structure]
    records: list[int]
    faults: list[str]


class Files:
    """Opens each file once, however many slices of it are asked for.

    Args:
        root: folder that relative names start from.
        keys: names of the labels.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
    """

    def __init__(self, root: Path, keys: LabelKeys, *, skip_bad: bool = False) -> None:
        self._root, self._keys, self._skip_bad = root.expanduser(), keys, skip_bad
        self._opened: dict[tuple[Path, LabelKeys], Source] = {}

    def open(
        self,
        specification: str,
        *,
        keys: LabelKeys | None = None,
        weight: float = 1.0,
        option: str = "dataset.keys.{label}",
    ) -> Part:
        """The records of `file`, or of its slice `file@start:stop`.

        Args:
            specification: the file or slice.
            keys: names of the labels, if not those of the data set.
            weight: as in `Part`.
            option: the user's option for the key of a label, for messages.

        Raises:
            MlipError: for a file that cannot be read.
        """
        name, window = parse_slice(specification)
        path, keys = self._root / Path(name).expanduser(), keys or self._keys
        if (path, keys) not in self._opened:
            self._opened[path, keys] = open_source(path, keys=keys, option=option)
        source = self._opened[path, keys]
        return Part(source, range(len(source))[window], weight)

    def read(self, part: Part) -> ReadPart:
        """All frames of a part.

        Raises:
            BadRecordError: for a record that cannot be used, unless these are left out.
            MlipError: for a file that cannot be read.
        """
        found = ReadPart([], [], [])
        for record in part.records:
            try:
                found.structures.append(part.source[record])
                found.records.append(record)
            except BadRecordError as error:
                if not self._skip_bad:
                    raise
                found.faults.append(str(error))
        return found


def parse_slice(specification: str) -> tuple[str, slice]:
    """`file@start:stop` as file and slice.

    Raises:
        MlipError: for anything but whole numbers behind the @.
    """
    name, at, window = specification.rpartition("@")
    if not at:
        return specification, slice(None)
    match = re.fullmatch(r"(-?\d*):(-?\d*)", window)
    if match is None:
        raise MlipError(f"{specification}: expected file.xyz@start:stop with whole numbers.")
    return name, slice(*(int(end) if end else None for end in match.groups()))


class _InMemory(Source):
    def __init__(self, structures: list[Structure]) -> None:
        self._structures = structures

    def __len__(self) -> int:
        return len(self._structures)

    def __getitem__(self, index: int) -> Structure:
        return self._structures[index]

    def identifier(self, index: int) -> str:
        return self._structures[index].identifier

    def num_atoms(self, index: int) -> int:
        return len(self._structures[index])


def open_source(path: Path, *, keys: LabelKeys, option: str) -> Source:
    return _InMemory(read_extxyz(path, keys=keys, option=option))
