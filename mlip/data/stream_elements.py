"""What files know of all of their records, which the sample of a stream may miss."""

from __future__ import annotations

from collections.abc import Sequence

from mlip.data.frames import Frames, Part
from mlip.data.tally import Tally


def known_elements(parts: Sequence[Part]) -> set[int]:
    """Atomic numbers that the files of some parts name without being read."""
    found = [part.source.elements for part in parts]
    return {number for elements in found if elements is not None for number in elements}


def known_sums(train: Frames) -> Tally | None:
    """The sums over all records of the files of a stream; None unless all files have theirs."""
    total = Tally()
    for source in dict.fromkeys(part.source for part in train.parts):
        sums = source.tally()
        if sums is None:
            return None
        total.merge(sums)
    return total
