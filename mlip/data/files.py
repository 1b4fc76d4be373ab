"""`Files`: the sources of a data set, each opened once, and their frames in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlip.data.frames import Part
from mlip.data.neighbors import without_collisions
from mlip.data.records import Marked, beginning, chosen
from mlip.data.sources.registry import FOLDERS, FORMATS, SourceSettings, open_source
from mlip.data.sources.source import BadRecordError, Source, left_out
from mlip.data.structure import Structure, is_isolated_atom
from mlip.errors import MlipError

ISOLATED_SEARCH = 200  # first records of a part among which isolated atoms are looked for


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
        settings: how files are read.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
        prefix: of the user's options `keys.LABEL` and `on_bad_record`, for messages.

    Attributes:
        notes: how much there is in folders, and what was left out when the records were listed, in
            words.
    """

    def __init__(
        self,
        root: Path,
        settings: SourceSettings,
        *,
        skip_bad: bool = False,
        prefix: str = "dataset.",
    ) -> None:
        self._root, self._settings, self._skip_bad = root.expanduser(), settings, skip_bad
        self._prefix = prefix
        self._opened: dict[tuple[Path, SourceSettings], Source] = {}
        self.notes: list[str] = []

    def open(
        self,
        specification: str,
        *,
        settings: SourceSettings | None = None,
        weight: float = 1.0,
        option: str | None = None,
    ) -> Part:
        """The records of `file`, of its slice `file@start:stop`, or those in `file@index.npy`.

        Args:
            specification: the file, slice or choice.
            settings: how it is read, if not as the others.
            weight: as in `Part`.
            option: the user's option for the key of a label, if not PREFIXkeys.LABEL.

        Raises:
            MlipError: for a file that cannot be read.
        """
        name, window = parse_slice(specification)
        key = (self._root / Path(name).expanduser(), settings or self._settings)
        if key not in self._opened:
            source = open_source(*key, option=option or f"{self._prefix}keys.{{label}}")
            if len(source.files) > 1:  # a last shard that is missing shows in nothing else
                self.notes.append(
                    f"{name}: {len(source.files)} files with {len(source):,} records, the last of "
                    f"them {source.files[-1].name}"
                )
            self.notes += (f"{name}: {note}" for note in source.notes)
            self._opened[key] = source
        source = self._opened[key]
        if isinstance(window, Path):
            return Part(source, _read_index(self._root / window, name, len(source)), weight)
        return Part(source, range(len(source))[window], weight)

    def read(self, part: Part) -> ReadPart:
        """All frames of a part.

        Where records that cannot be used are left out, so are those with two atoms on one spot.

        Raises:
            BadRecordError: for a record that cannot be used, unless these are left out.
            MlipError: for a file that cannot be read.
        """
        found = ReadPart([], [], [])
        option = f"{self._prefix}on_bad_record"
        for record, read in zip(part.records, in_order(part), strict=True):
            if isinstance(read, Structure):
                found.structures.append(read)
                found.records.append(record)
            else:
                found.faults.append(left_out(read, skip_bad=self._skip_bad, option=option))
        if not self._skip_bad:
            return found
        kept, collisions = without_collisions(found.structures)
        return ReadPart(
            [found.structures[index] for index in kept],
            [found.records[index] for index in kept],
            [*found.faults, *collisions],
        )

    def first_isolated_atoms(self, parts: Iterable[Part]) -> list[Structure]:
        """The isolated atoms at the beginning of some parts, where files of them have theirs.

        Raises:
            MlipError: as for `read`.
        """
        found: list[Structure] = []
        for part in parts:
            first = part._replace(records=beginning(part.records, ISOLATED_SEARCH))
            found += filter(is_isolated_atom, self.read(first).structures)
        return found


def in_order(part: Part) -> Iterator[Structure | BadRecordError]:
    """The records of a part, bad ones as their errors."""
    if part.records == range(len(part.source)):
        yield from part.source.stream()  # faster in some formats
    else:
        yield from part.source.read_in_order(part.records)


def parse_slice(specification: str) -> tuple[str, slice | Path]:
    """`file@start:stop` as file and slice, `file@index.npy` as file and file of record numbers.

    Raises:
        MlipError: for anything else behind the @.
    """
    name, at, window = specification.rpartition("@")
    if not at:
        return specification, slice(None)
    if window.endswith(".npy"):
        return name, Path(window).expanduser()
    match = re.fullmatch(r"(-?\d*):(-?\d*)", window)
    if match is None:
        raise MlipError(
            f"{specification}: expected file.xyz@start:stop with whole numbers, or "
            "file.xyz@index.npy with a file of record numbers."
        )
    return name, slice(*(int(end) if end else None for end in match.groups()))


def require_no_shard(output: Path, data: str, settings: SourceSettings) -> None:
    """Refuse an output that changes what the folder that it is made from is read as.

    Args:
        output: the file to make.
        data: what it is made from, as in `Files.open`.
        settings: how that is read.

    Raises:
        MlipError: if it would stand in that folder, and look like one of its shards.
    """
    folder = Path(parse_slice(data)[0]).expanduser()
    if not folder.is_dir() or output.expanduser().resolve().parent != folder.resolve():
        return
    kinds = FOLDERS if settings.format is None else (settings.format,)
    if any(output.name.endswith(FORMATS[kind].endings) for kind in kinds):
        raise MlipError(
            f"output={output} would stand among the files of {folder}, and be taken for one of "
            "those that it is made from; choose another folder."
        )


def _read_index(path: Path, name: str, count: int) -> Marked:
    """The records whose numbers a file holds, as `mlip data split` writes it."""
    try:
        numbers = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MlipError(f"{path} cannot be read as a file of record numbers ({error}).") from None
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer) or not len(numbers):
        raise MlipError(
            f"{path} holds {numbers.dtype} numbers of shape {numbers.shape}; expected record "
            "numbers, one row of integers."
        )
    if numbers.min() < 0 or numbers.max() >= count or (np.diff(numbers) <= 0).any():
        raise MlipError(
            f"{path} does not belong to {name}: expected ascending record numbers from 0 to "
            f"{count - 1}, found {numbers.min()} to {numbers.max()}."
        )
    return chosen(count, numbers)
