"""Which records of a source belong to a subset, without a list of them.

A `range` holds a slice, `Shuffled` a random share of a given size, `Marked` any choice in one bit
per record. All are sequences of record numbers and give many of them at once by `take`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlip.data.shuffle import shuffled

BLOCK = 4096  # records per entry in the table of a `Marked`


class Shuffled(Sequence[int]):
    """A random share of some records: those at the places `start` to `stop` of a shuffled order.

    Args:
        records: all of them.
        key: names the order.
        start: first place.
        stop: place after the last.
    """

    def __init__(self, records: Records, key: Sequence[int], start: int, stop: int) -> None:
        self._records, self._key = records, tuple(key)
        self._start, self._stop = start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> int:  # type: ignore[override]
        return int(take(self, np.array([_inside(index, len(self))]))[0])

    def take(self, places: np.ndarray) -> np.ndarray:
        """Record numbers at some places."""
        order = shuffled(places + self._start, len(self._records), self._key)
        return take(self._records, order)


class Marked(Sequence[int]):
    """The marked ones among some records, in their order; a bit per record.

    Args:
        records: all of them.
        marks: whether each belongs, shape (len(records),).
    """

    def __init__(self, records: Records, marks: np.ndarray) -> None:
        self._records = records
        self._bits = np.packbits(marks)
        counts = np.add.reduceat(marks, np.arange(0, len(marks), BLOCK), dtype=np.int64)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # marks before each block

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, index: int) -> int:  # type: ignore[override]
        return int(take(self, np.array([_inside(index, len(self))]))[0])

    def take(self, places: np.ndarray) -> np.ndarray:
        """Record numbers at some places."""
        blocks = np.searchsorted(self._before, places, side="right") - 1
        found = np.empty(len(places), np.int64)
        for block in np.unique(blocks):
            first = block * BLOCK // 8
            inside = np.flatnonzero(np.unpackbits(self._bits[first : first + BLOCK // 8]))
            chosen = blocks == block
            found[chosen] = block * BLOCK + inside[places[chosen] - self._before[block]]
        return take(self._records, found)


Records = range | Shuffled | Marked


def take(records: Records, places: np.ndarray) -> np.ndarray:
    """Record numbers at some places of any kind of records, int64."""
    if isinstance(records, range):
        return records.start + records.step * places
    return records.take(places)


def chosen(count: int, numbers: np.ndarray) -> Marked:
    """Some of the first `count` records, by their numbers."""
    marks = np.zeros(count, bool)
    marks[numbers] = True
    return Marked(range(count), marks)


def beginning(records: Records, count: int) -> Records:
    """The first ones of some records that stand in their order."""
    if isinstance(records, range):
        return records[:count]
    numbers = take(records, np.arange(min(count, len(records))))
    return chosen(int(numbers.max(initial=0)) + 1, numbers)


def _inside(index: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError(index)
    return index % size
