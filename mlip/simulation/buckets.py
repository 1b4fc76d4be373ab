"""Which padded shape a structure is evaluated in: few shapes, so few compilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlip.data.collate import BatchShape
from mlip.data.shapes import ATOM_COST, block_cost, choose_width
from mlip.potential import next_size

HEADROOM = 1.1  # room for each atom's neighbours to fluctuate during a simulation
WASTE = 2.0  # accepted cost of a padded shape, in units of the cost without any padding ...
TRIFLE = 500.0  # ... and in excess of it (in edges): what is lost among the fixed costs of a call


class Fit(NamedTuple):
    """The shape to use, and why it is a new one (empty if it was used before)."""

    shape: BatchShape
    reason: str


class Buckets:
    """A growing set of single-structure shapes.

    A structure goes into the cheapest bucket that holds it, unless that would waste more than a
    new compilation is worth. The first bucket has exactly the atom count of the first structure,
    as simulations of one system are the common case; later sizes come from a geometric series,
    so that the number of buckets grows with the logarithm of the range of sizes. The choice
    depends on the structure and the set of buckets alone.

    Args:
        shapes: buckets to start with.
    """

    def __init__(self, shapes: Sequence[BatchShape] = ()) -> None:
        self.shapes = list(shapes)

    def fit(self, counts: np.ndarray) -> Fit:
        """The bucket for a structure.

        Args:
            counts: number of neighbours of each atom, shape (n,).
        """
        atoms = len(counts)
        holding = [
            s for s in self.shapes if s.nodes >= atoms and s.blocks >= _blocks(counts, s.width)
        ]
        if holding:
            best = min(holding, key=_cost)
            if _cost(best) <= WASTE * (counts.sum() + ATOM_COST * atoms) + TRIFLE:
                return Fit(best, "")
        reason = self._reason(atoms, bool(holding))
        shape = self._new_shape(counts)
        self.shapes.append(shape)
        return Fit(shape, reason)

    def _new_shape(self, counts: np.ndarray) -> BatchShape:
        atoms, spare = len(counts), np.ceil(HEADROOM * counts).astype(int)
        width = choose_width(spare)
        blocks = max(1, _blocks(spare, width))
        if not self.shapes:
            return BatchShape(1, atoms, blocks, width)
        known = any(s.nodes == atoms for s in self.shapes)
        return BatchShape(1, atoms if known else next_size(atoms), next_size(blocks), width)

    def _reason(self, atoms: int, held: bool) -> str:
        if not self.shapes:
            return "first structure"
        if held:
            return f"{atoms} atoms would waste the larger buckets"
        if all(s.nodes < atoms for s in self.shapes):
            return f"{atoms} atoms exceed the largest bucket of {max(s.nodes for s in self.shapes)}"
        return f"{atoms} atoms have more neighbours than any bucket holds"


def _blocks(counts: np.ndarray, width: int) -> int:
    return int((-(-counts // width)).sum())


def _cost(shape: BatchShape) -> float:
    return shape.blocks * block_cost(shape.width) + shape.nodes * ATOM_COST
