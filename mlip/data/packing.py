"""Packing structures of any sizes into batches of few static shapes.

A batch takes one structure from each *stratum*: the structures are sorted by size and cut into
`batch_size` strata, so that every batch holds small and large ones and all batches are almost
equally large. The epoch's order is random within each stratum.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mlip.data.collate import BatchShape, count_blocks
from mlip.data.neighbors import NeighborList
from mlip.errors import MlipError

WIDTHS = (4, 8, 12, 16, 24, 32)
BLOCK_OVERHEAD = 2.0  # cost of a block beyond its edges, in edges: its output and the sum over it
ATOM_COST = 20.0  # cost of an atom beyond its edges, in edges: products and linear maps
MULTIPLE = 8  # block counts, and atom counts where they vary, are rounded up to this
MAX_SHAPES = 3
WORTHWHILE = 0.10  # saving of cost that justifies one more shape, hence one more compilation
TRIAL_DRAWS = 32  # simulated epochs from which the budget is set
MAX_DRAWS = 50  # draws of one epoch before the fixed arrangement is taken


class Sizes(NamedTuple):
    """Sizes of each structure, each an integer array of shape (n,)."""

    atoms: np.ndarray
    edges: np.ndarray
    blocks: np.ndarray


class Padding(NamedTuple):
    """Share of an epoch's slots that is padding, each between 0 and 1."""

    edges: float
    atoms: float
    structures: float


def block_cost(width: int) -> float:
    """Cost of one block of `width` edges, in units of one edge."""
    return width + BLOCK_OVERHEAD


def choose_width(counts: np.ndarray) -> int:
    """The block width of least cost for the given numbers of neighbours per atom.

    Wide blocks pad more, narrow ones pay the overhead of a block more often.
    """
    costs = [np.sum(-(-counts // width)) * block_cost(width) for width in WIDTHS]
    return WIDTHS[int(np.argmin(costs))]


def neighbor_counts(atoms: Sequence[int], neighbors: Sequence[NeighborList]) -> np.ndarray:
    """Neighbours of every atom of every structure, one flat array."""
    return np.concatenate(
        [
            np.bincount(pairs.receivers, minlength=count)
            for count, pairs in zip(atoms, neighbors, strict=True)
        ]
    )


def measure(atoms: Sequence[int], neighbors: Sequence[NeighborList], width: int) -> Sizes:
    """Sizes of all structures for blocks of `width` edges."""
    blocks = [count_blocks(p, count, width) for count, p in zip(atoms, neighbors, strict=True)]
    edges = [len(pairs.receivers) for pairs in neighbors]
    return Sizes(np.asarray(atoms), np.asarray(edges), np.asarray(blocks))


def stratify(sizes: Sizes, batch_size: int) -> list[np.ndarray]:
    """Cut the structures, largest first, into strata with one structure per batch.

    Args:
        sizes: of all structures.
        batch_size: most structures in a batch.

    Returns:
        indices of each stratum; the length of the first is the number of batches, only the last
        may be shorter.
    """
    order = np.argsort(-(sizes.blocks * 1.0 + sizes.atoms * 1e-6), kind="stable")
    num_batches = -(-len(order) // batch_size)
    return [order[i : i + num_batches] for i in range(0, len(order), num_batches)]


def arrange(strata: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The fixed arrangement: strata are dealt to the batches in alternating direction."""
    batches: list[list[int]] = [[] for _ in strata[0]]
    for k, stratum in enumerate(strata):
        slots = range(len(batches))
        for slot, index in zip(slots if k % 2 == 0 else reversed(slots), stratum, strict=False):
            batches[slot].append(int(index))
    return [np.array(batch) for batch in batches]


def draw(strata: Sequence[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    """A random arrangement: each stratum is dealt to the batches in random order."""
    batches: list[list[int]] = [[] for _ in strata[0]]
    for stratum in strata:
        slots = generator.permutation(len(batches))[: len(stratum)]
        for slot, index in zip(slots, stratum, strict=True):
            batches[slot].append(int(index))
    return [np.array(batch) for batch in batches]


def fits(batches: Sequence[np.ndarray], sizes: Sizes, shape: BatchShape) -> bool:
    """Whether every batch fits into the shape."""
    return all(_fits(batch, sizes, shape) for batch in batches)


def smallest_fitting(batch: np.ndarray, sizes: Sizes, shapes: Sequence[BatchShape]) -> BatchShape:
    """The cheapest of the shapes, in ascending order, that holds the batch."""
    for shape in shapes:
        if _fits(batch, sizes, shape):
            return shape
    raise AssertionError("an arrangement is only accepted if it fits the largest shape")


def draw_within(
    strata: Sequence[np.ndarray], sizes: Sizes, shape: BatchShape, generator: np.random.Generator
) -> list[np.ndarray]:
    """A random arrangement in which every batch fits into the shape.

    Draws again if a batch does not fit, which is rare, and falls back on the fixed arrangement,
    which fits by the choice of the shape.
    """
    for _ in range(MAX_DRAWS):
        batches = draw(strata, generator)
        if fits(batches, sizes, shape):
            return batches
    return arrange(strata)


def choose_shapes(sizes: Sizes, batch_size: int, width: int, *, shuffle: bool) -> list[BatchShape]:
    """The static shapes of an epoch, in ascending order; the last holds every batch.

    One shape unless a further, smaller one saves more than `WORTHWHILE` of the cost.

    Args:
        sizes: of all structures, measured with `width`.
        batch_size: most structures in a batch.
        width: edges per block.
        shuffle: whether the arrangement is drawn anew each epoch or fixed.
    """
    strata = stratify(sizes, batch_size)
    epochs = [arrange(strata)]
    if shuffle:
        generator = np.random.default_rng(0)
        epochs += [draw(strata, generator) for _ in range(TRIAL_DRAWS)]
    totals = np.array(
        [[sizes.blocks[batch].sum(), sizes.atoms[batch].sum()] for e in epochs for batch in e]
    )
    totals = totals[np.argsort(totals[:, 0], kind="stable")]
    equal = len(np.unique(sizes.atoms)) == 1

    def shape_up_to(row: int) -> BatchShape:
        blocks = _round_up(int(totals[row, 0]))
        atoms = int(totals[: row + 1, 1].max())
        return BatchShape(len(strata), atoms if equal else _round_up(atoms), blocks, width)

    rows = sorted({round(q * (len(totals) - 1)) for q in np.linspace(0.1, 0.9, 9)})
    largest = shape_up_to(len(totals) - 1)
    best = [largest]
    for extra in range(1, MAX_SHAPES):
        choices = [
            [*(shape_up_to(row) for row in combination), largest]
            for combination in combinations(rows, extra)
        ]
        cheapest = min(choices, key=lambda shapes: _mean_cost(totals, shapes))
        if _mean_cost(totals, cheapest) > (1 - WORTHWHILE) * _mean_cost(totals, best):
            break
        best = cheapest
    return best


def check_shapes(strata: Sequence[np.ndarray], sizes: Sizes, shapes: Sequence[BatchShape]) -> None:
    """Raise unless the largest of the given shapes can hold the structures in some arrangement."""
    if not fits(arrange(strata), sizes, shapes[-1]):
        raise MlipError(
            f"the batch shape {shapes[-1]} is too small for these structures; use a larger one."
        )


def padding(batches: Sequence[np.ndarray], sizes: Sizes, shapes: Sequence[BatchShape]) -> Padding:
    """Share of padding in an epoch of these batches."""
    chosen = [smallest_fitting(batch, sizes, shapes) for batch in batches]
    return Padding(
        edges=1 - int(sizes.edges.sum()) / max(1, sum(s.blocks * s.width for s in chosen)),
        atoms=1 - int(sizes.atoms.sum()) / sum(s.nodes for s in chosen),
        structures=1 - len(sizes.atoms) / sum(s.graphs for s in chosen),
    )


def _fits(batch: np.ndarray, sizes: Sizes, shape: BatchShape) -> bool:
    return bool(
        len(batch) <= shape.graphs
        and sizes.atoms[batch].sum() <= shape.nodes
        and sizes.blocks[batch].sum() <= shape.blocks
    )


def _round_up(number: int) -> int:
    return max(MULTIPLE, -(-number // MULTIPLE) * MULTIPLE)


def _mean_cost(totals: np.ndarray, shapes: Sequence[BatchShape]) -> float:
    """Mean cost of batches with the given (blocks, atoms), each in its smallest shape."""
    costs = np.full(len(totals), np.inf)
    for shape in reversed(shapes):
        inside = (totals[:, 0] <= shape.blocks) & (totals[:, 1] <= shape.nodes)
        costs[inside] = shape.blocks * block_cost(shape.width) + shape.nodes * ATOM_COST
    return float(costs.mean())
