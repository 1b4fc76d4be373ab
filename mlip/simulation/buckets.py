"""Which padded shape a structure is evaluated in: few shapes, so few compilations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mlip.data.collate import BatchShape
from mlip.potential import next_size

HEADROOM = 1.1  # room for the neighbour counts to fluctuate during a simulation


class Fit(NamedTuple):
    """The shape to use, and why it is a new one (empty if it was used before)."""

    shape: BatchShape
    reason: str


class Buckets:
    """A growing set of single-structure shapes.

    The first structure gets a bucket of exactly its atom count, as simulations of one system are
    the common case; every other one comes from a geometric series, so that the number of shapes
    grows with the logarithm of the range of sizes. A structure goes into the smallest bucket
    that holds it, unless that is more than two sizes of the series too large.

    Args:
        width: edges per block.
        shapes: buckets to start with.
    """

    def __init__(self, width: int, shapes: Sequence[BatchShape] = ()) -> None:
        self.width = width
        self.shapes = list(shapes)

    def fit(self, atoms: int, blocks: int) -> Fit:
        """The bucket for a structure of `atoms` atoms and `blocks` blocks of edges."""
        holding = [s for s in self.shapes if s.nodes >= atoms and s.blocks >= blocks]
        limits = (next_size(next_size(atoms) + 1), next_size(next_size(_spare(blocks)) + 1))
        usable = [s for s in holding if s.nodes <= limits[0] and s.blocks <= limits[1]]
        if usable:
            return Fit(min(usable, key=lambda s: (s.blocks, s.nodes)), "")
        reason = self._reason(atoms, blocks, bool(holding))
        known = any(s.nodes == atoms for s in self.shapes)
        nodes = atoms if known or not self.shapes else next_size(atoms)
        size = _spare(blocks) if not self.shapes else next_size(_spare(blocks))
        shape = BatchShape(graphs=1, nodes=nodes, blocks=size, width=self.width)
        self.shapes.append(shape)
        return Fit(shape, reason)

    def _reason(self, atoms: int, blocks: int, held: bool) -> str:
        if not self.shapes:
            return "first structure"
        if held:
            return f"{atoms} atoms are far fewer than in any earlier bucket"
        most = max(s.nodes for s in self.shapes)
        if atoms > most:
            return f"{atoms} atoms exceed the largest bucket of {most}"
        most = max(s.blocks for s in self.shapes if s.nodes >= atoms)
        return f"{blocks * self.width} edges exceed the bucket of {most * self.width}"


def _spare(blocks: int) -> int:
    return max(1, math.ceil(HEADROOM * blocks))
