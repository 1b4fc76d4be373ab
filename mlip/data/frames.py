"""`Frames`: the labelled structures of a subset that is too large for memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mlip.data.progress import progress
from mlip.data.records import Records, take
from mlip.data.shuffle import shuffled
from mlip.data.sources.source import BadRecordError, Source, left_out
from mlip.data.structure import Structure, is_isolated_atom, passing

SAMPLE_KEY = 0x5A4D  # names the order that samples are the beginning of
PART_KEY = 0x5041  # names the orders in which parts with a weight are gone through


class Part(NamedTuple):
    """Some records of a source.

    Attributes:
        source: of any format.
        records: which of its records.
        weight: how often each of them occurs in an epoch.
    """

    source: Source
    records: Records
    weight: float = 1.0


class Read(NamedTuple):
    """What became of the records that were asked for.

    Attributes:
        structures: of those that can be used, in the order asked for.
        positions: where they stand in the epoch, shape (len(structures),).
        faults: why others were left out, one sentence each.
    """

    structures: list[Structure]
    positions: np.ndarray
    faults: list[str]


class Frames(Sequence[Structure]):
    """Labelled structures that are read when they are asked for.

    An epoch holds `round(weight · n)` frames of each part with n records, so that a weight of 1
    takes each record once. A part with another weight is gone through again and again in ever new
    orders, and each epoch goes on where the one before stopped: in the long run all its records
    occur equally often.

    Args:
        parts: at least one record each.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
        option: the user's option for that, for messages.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        skip_bad: bool = False,
        option: str = "dataset.on_bad_record",
    ) -> None:
        self.parts = tuple(parts)
        self.skip_bad = skip_bad
        self._option = option
        counts = [max(1, round(part.weight * len(part.records))) for part in parts]
        self._first = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        """Frames of an epoch."""
        return int(self._first[-1])

    def __getitem__(self, position: int) -> Structure:  # type: ignore[override]
        """The frame at a position of the first epoch, before any shuffling."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        (part,), (record,) = self.locate(np.array([position]))
        return self.parts[part].source[int(record)]

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(p.records)} records with weight {p.weight:g}" for p in self.parts)
        return f"Frames({len(self)} per epoch: {parts})"

    def locate(self, positions: np.ndarray, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Part and record of the frames at some positions of an epoch, before any shuffling."""
        parts = np.searchsorted(self._first, positions, side="right") - 1
        records = np.empty(len(positions), np.int64)
        for number in np.unique(parts):
            chosen = parts == number
            within = positions[chosen] - self._first[number]
            records[chosen] = take(self.parts[number].records, self._places(number, within, epoch))
        return parts, records

    def read(
        self,
        positions: np.ndarray,
        epoch: int = 0,
        report: Callable[[int], None] = lambda done: None,
    ) -> Read:
        """The frames at some positions of an epoch; isolated atoms, which give E0, are left out.

        Args:
            positions: in the epoch.
            epoch: its number.
            report: called with the number of frames read.

        Raises:
            BadRecordError: for a record that cannot be used, unless these are left out.
            MlipError: for a file that cannot be read.
        """
        parts, records = self.locate(positions, epoch)
        found: dict[int, Structure] = {}
        faults = []
        order = np.lexsort((records, parts))  # that on disk, whatever was asked for
        for done, index in enumerate(order):
            report(done)
            try:
                structure = self.parts[parts[index]].source[int(records[index])]
            except BadRecordError as error:
                faults.append(self.fault(error))
                continue
            if not is_isolated_atom(structure):
                found[int(index)] = structure
        kept = np.array(sorted(found), dtype=np.int64)
        return Read([found[int(index)] for index in kept], positions[kept], faults)

    def fault(self, error: BadRecordError) -> str:
        """Why a record is left out.

        Raises:
            BadRecordError: if it may not be left out.
        """
        return left_out(error, skip_bad=self.skip_bad, option=self._option)

    def keep(self, read: Read, check: Callable[[Structure], object]) -> Read:
        """What was read, without the structures that a check refuses by an `MlipError`.

        Raises:
            BadRecordError: for the first of them, unless they are left out.
        """
        kept, refused = passing(read.structures, check)
        faults = [*read.faults]
        for structure, error in refused:
            name = structure.identifier
            fault = str(error).removeprefix(f"{name}: ")
            faults.append(self.fault(BadRecordError(name, fault)))
        return Read([read.structures[index] for index in kept], read.positions[kept], faults)

    def sample(self, count: int) -> Read:
        """Frames drawn at random, always the same ones, none twice; all if there are no more."""
        places = np.arange(min(count, len(self)))
        positions = np.sort(shuffled(places, len(self), [SAMPLE_KEY]))
        _, first = np.unique(self.locate(positions), axis=1, return_index=True)
        chosen = positions[np.sort(first)]
        with progress("sample", len(chosen)) as bar:
            return self.read(chosen, report=lambda done: bar.update(done + 1, ""))

    def chunks(self, size: int) -> Iterator[Read]:
        """All frames of the first epoch in random order, always the same one."""
        for start in range(0, len(self), size):
            places = np.arange(start, min(start + size, len(self)))
            yield self.read(shuffled(places, len(self), [SAMPLE_KEY]))

    def _places(self, number: int, within: np.ndarray, epoch: int) -> np.ndarray:
        """Where the frames of one part, numbered within the epoch, stand among its records."""
        size = len(self.parts[number].records)
        count = int(self._first[number + 1] - self._first[number])
        if count == size:
            return within
        passes, places = np.divmod(epoch * count + within, size)
        for current in np.unique(passes):
            chosen = passes == current
            key = [PART_KEY, int(number), int(current)]
            places[chosen] = shuffled(places[chosen], size, key)
        return places
