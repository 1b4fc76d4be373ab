"""The few static shapes that batches are padded to, chosen from the sizes of the structures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mlip.data.collate import BatchShape
from mlip.data.packing import (
    Sizes,
    draw,
    pack_window,
    slightly_above_mean,
    weights_of,
)
from mlip.errors import MlipError

WIDTHS = (4, 8, 12, 16, 24, 32)
BLOCK_OVERHEAD = 2.0  # cost of a block beyond its edges, in edges: its output and the sum over it
ATOM_COST = 20.0  # cost of an atom beyond its edges, in edges: products and linear maps
MULTIPLE = 8  # block counts, and atom counts where they vary, are rounded up to this
MAX_SHAPES = 3
WORTHWHILE = 0.10  # saving of cost that justifies one more shape, hence one more compilation
TRIAL_DRAWS = 8  # simulated epochs that show whether smaller shapes are worthwhile
TRIAL_WINDOWS = 64  # simulated windows of a stream that show how large its batches get
GROWTH = 1.25  # of the largest shape, for a batch of a stream that exceeds it


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


def smallest_fitting(batch: np.ndarray, sizes: Sizes, shapes: Sequence[BatchShape]) -> BatchShape:
    """The first of the shapes, in ascending order, that holds the batch."""
    for shape in shapes:
        if (
            len(batch) <= shape.graphs
            and sizes.atoms[batch].sum() <= shape.nodes
            and sizes.blocks[batch].sum() <= shape.blocks
        ):
            return shape
    raise MlipError(
        f"the batch shape {shapes[-1]} is too small for these structures; use a larger one."
    )


def choose_shapes(
    strata: Sequence[np.ndarray], sizes: Sizes, fixed: np.ndarray, width: int, *, shuffle: bool
) -> list[BatchShape]:
    """The static shapes of an epoch, in ascending order; the last holds every batch.

    The last is a little larger than the mean batch, and holds the fixed arrangement. A further,
    smaller shape is added where it saves more than `WORTHWHILE` of the cost.

    Args:
        strata: from `stratify`.
        sizes: of all structures, measured with `width`.
        fixed: from `arrange`.
        width: edges per block.
        shuffle: whether the arrangement is drawn anew each epoch or fixed.
    """
    weights = weights_of(sizes)
    totals = weights[fixed].sum(axis=1)
    largest = totals.max(axis=0)
    if shuffle:
        largest = np.maximum(largest, slightly_above_mean(sizes, len(fixed)))
    make_shape = _ShapeMaker(sizes, len(strata), width)
    last = make_shape(*largest)
    if shuffle:
        generator = np.random.default_rng(0)
        limit = np.array([last.blocks, last.nodes])
        tables = [draw(strata, sizes, limit, fixed, generator) for _ in range(TRIAL_DRAWS)]
        totals = weights[np.concatenate(tables)].sum(axis=1)
    return _with_smaller_ones(last, totals, make_shape)


def choose_window_shapes(
    sample: Sizes, width: int, *, batch_size: int, window: int
) -> tuple[list[BatchShape], Padding]:
    """The static shapes of a stream, in ascending order, from the sizes of a sample of it.

    Windows are drawn from the sample and packed as those of the stream will be. The last shape
    holds all batches of these; a batch of the stream may exceed it (`shape_of_batch`).

    Args:
        sample: sizes of some structures, measured with `width`.
        width: edges per block.
        batch_size: structures in a batch.
        window: structures in a window.

    Returns:
        The shapes, and the padding they cost in the windows drawn.
    """
    generator = np.random.default_rng(0)
    num_batches = -(-window // batch_size)
    batches = []
    for _ in range(TRIAL_WINDOWS):
        drawn = generator.integers(len(sample.atoms), size=window)
        sizes = Sizes(*(values[drawn] for values in sample))
        batches += [drawn[batch] for batch in pack_window(sizes, num_batches, generator)]
    weights = weights_of(sample)
    totals = np.array([weights[batch].sum(axis=0) for batch in batches])
    make_shape = _ShapeMaker(sample, batch_size, width)
    shapes = _with_smaller_ones(make_shape(*totals.max(axis=0)), totals, make_shape)
    return shapes, padding(batches, sample, shapes)


def shape_of_batch(batch: np.ndarray, sizes: Sizes, shapes: Sequence[BatchShape]) -> BatchShape:
    """The first of the shapes that holds a batch of a stream, or a larger one.

    Larger ones form a geometric series, so that there are few of them; which one a batch gets
    depends on the batch alone.
    """
    blocks, atoms = (int(values[batch].sum()) for values in (sizes.blocks, sizes.atoms))
    for shape in shapes:
        if blocks <= shape.blocks and atoms <= shape.nodes:
            return shape
    shape = shapes[-1]
    while blocks > shape.blocks or atoms > shape.nodes:
        shape = shape._replace(
            nodes=_round_up(int(GROWTH * shape.nodes)), blocks=_round_up(int(GROWTH * shape.blocks))
        )
    return shape


def padding(batches: Sequence[np.ndarray], sizes: Sizes, shapes: Sequence[BatchShape]) -> Padding:
    """Share of padding in these batches."""
    members = np.concatenate(batches)
    chosen = [smallest_fitting(batch, sizes, shapes) for batch in batches]
    slots = max(1, sum(shape.blocks * shape.width for shape in chosen))
    return Padding(
        edges=1 - int(sizes.edges[members].sum()) / slots,
        atoms=1 - int(sizes.atoms[members].sum()) / sum(shape.nodes for shape in chosen),
        structures=1 - len(members) / sum(shape.graphs for shape in chosen),
    )


class _ShapeMaker:
    """Makes shapes for batches with given numbers of blocks and atoms.

    Structures that are all of one size fill the atoms of a batch exactly.
    """

    def __init__(self, sizes: Sizes, graphs: int, width: int) -> None:
        self._graphs, self._width = graphs, width
        equal = len(np.unique(sizes.atoms)) == 1
        self._nodes = graphs * int(sizes.atoms[0]) if equal else None

    def __call__(self, blocks: int, atoms: int) -> BatchShape:
        nodes = _round_up(int(atoms)) if self._nodes is None else self._nodes
        return BatchShape(self._graphs, nodes, _round_up(int(blocks)), self._width)


def _with_smaller_ones(
    last: BatchShape, totals: np.ndarray, make_shape: _ShapeMaker
) -> list[BatchShape]:
    """`last`, after as many smaller shapes as are worthwhile for batches of (blocks, atoms)."""
    totals = totals[np.argsort(totals[:, 0], kind="stable")]
    smaller = [
        make_shape(totals[row, 0], totals[: row + 1, 1].max())
        for row in sorted({round(q * (len(totals) - 1)) for q in np.linspace(0.1, 0.9, 9)})
    ]
    best = [last]
    for extra in range(1, MAX_SHAPES):
        choices = [[*chosen, last] for chosen in combinations(smaller, extra)]
        cheapest = min(choices, key=lambda shapes: _mean_cost(totals, shapes), default=best)
        if _mean_cost(totals, cheapest) > (1 - WORTHWHILE) * _mean_cost(totals, best):
            break
        best = cheapest
    return best


def _round_up(number: int) -> int:
    return max(MULTIPLE, -(-number // MULTIPLE) * MULTIPLE)


def _mean_cost(totals: np.ndarray, shapes: Sequence[BatchShape]) -> float:
    """Mean cost of batches with the given (blocks, atoms), each in its smallest shape."""
    costs = np.full(len(totals), np.inf)
    for shape in reversed(shapes):
        inside = (totals[:, 0] <= shape.blocks) & (totals[:, 1] <= shape.nodes)
        costs[inside] = shape.blocks * block_cost(shape.width) + shape.nodes * ATOM_COST
    return float(costs.mean())
