"""Packing structures of any sizes into batches of few static shapes.

A batch takes one structure from each *stratum*: the structures are sorted by size and cut into
`batch_size` strata, so that every batch holds small and large ones and all batches are almost
equally large. The epoch's order is random within each stratum, up to a few exchanges that keep
every batch within the largest shape: no batch can ever exceed it.
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
SLACK = 0.02  # of the largest shape over the mean batch, so that random batches can be found
TRIAL_DRAWS = 8  # simulated epochs that show whether smaller shapes are worthwhile
MAX_EXCHANGES = 10_000  # of structures between batches of one epoch
PARTNERS = 256  # batches considered for one exchange


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
    order = np.lexsort((-sizes.atoms, -sizes.blocks))
    num_batches = -(-len(order) // batch_size)
    return [order[i : i + num_batches] for i in range(0, len(order), num_batches)]


def arrange(strata: Sequence[np.ndarray], sizes: Sizes) -> np.ndarray:
    """The fixed arrangement, whose fullest batch is about as small as can be.

    The strata are dealt to the batches in alternating direction and the batches are then balanced.

    Returns:
        index of the structure each batch takes from each stratum, or −1; shape (batches, strata).
    """
    table = np.full((len(strata[0]), len(strata)), -1)
    for k, stratum in enumerate(strata):
        rows = slice(None, len(stratum)) if k % 2 == 0 else slice(None, -len(stratum) - 1, -1)
        table[rows, k] = stratum
    _balance(table, sizes, _slightly_above_mean(sizes, len(table)), np.random.default_rng(0))
    return table


def draw(
    strata: Sequence[np.ndarray],
    sizes: Sizes,
    limit: BatchShape,
    fixed: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """A random arrangement in which every batch fits into `limit`.

    Each stratum is dealt to the batches in random order; then structures are exchanged between
    the fullest batch and others until all fit.

    Args:
        strata: from `stratify`.
        sizes: of all structures.
        limit: largest shape; holds `fixed`.
        fixed: from `arrange`; taken if the exchanges fail, which is rare.
        generator: source of randomness.

    Returns:
        as `arrange`.
    """
    table = np.full((len(strata[0]), len(strata)), -1)
    for k, stratum in enumerate(strata):
        table[generator.permutation(len(table))[: len(stratum)], k] = stratum
    fits = _balance(table, sizes, np.array([limit.blocks, limit.nodes]), generator)
    return table if fits else fixed


def _balance(
    table: np.ndarray, sizes: Sizes, limit: np.ndarray, generator: np.random.Generator
) -> bool:
    """Exchange structures within strata until every batch has at most `limit` (blocks, atoms).

    Returns:
        whether that was reached; if not, the fullest batch is as small as the exchanges found.
    """
    weights = _weights(sizes) / np.maximum(limit, 1)
    totals = weights[table].sum(axis=1)
    for _ in range(MAX_EXCHANGES):
        worst = int(np.argmax(totals.max(axis=1)))
        fullest = totals[worst].max()
        if fullest <= 1:
            return True
        others = generator.integers(len(table), size=PARTNERS)
        change = weights[table[worst]] - weights[table[others]]
        after = np.maximum(totals[worst] - change, totals[others, None] + change).max(axis=-1)
        partner, k = np.unravel_index(int(np.argmin(after)), after.shape)
        if after[partner, k] >= fullest:
            return False
        totals[worst] -= change[partner, k]
        totals[others[partner]] += change[partner, k]
        pair = [worst, others[partner]]
        table[pair, k] = table[pair[::-1], k]
    return False


def _weights(sizes: Sizes) -> np.ndarray:
    """(blocks, atoms) of each structure and, last, so that index −1 finds it, of none."""
    return np.append(np.column_stack([sizes.blocks, sizes.atoms]), [[0, 0]], axis=0)


def _slightly_above_mean(sizes: Sizes, num_batches: int) -> np.ndarray:
    """(blocks, atoms) of the mean batch plus `SLACK`."""
    mean = _weights(sizes).sum(axis=0) / num_batches
    return np.ceil((1 + SLACK) * mean).astype(int)


def members(table: np.ndarray) -> list[np.ndarray]:
    """Indices of the structures in each batch of an arrangement."""
    return [row[row >= 0] for row in table]


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
    weights = _weights(sizes)
    totals = weights[fixed].sum(axis=1)
    largest = totals.max(axis=0)
    if shuffle:
        largest = np.maximum(largest, _slightly_above_mean(sizes, len(fixed)))
    equal = len(np.unique(sizes.atoms)) == 1

    def shape_for(blocks: int, atoms: int) -> BatchShape:
        nodes = len(strata) * int(sizes.atoms[0]) if equal else _round_up(atoms)
        return BatchShape(len(strata), nodes, _round_up(blocks), width)

    last = shape_for(*map(int, largest))
    if shuffle:
        generator = np.random.default_rng(0)
        tables = [draw(strata, sizes, last, fixed, generator) for _ in range(TRIAL_DRAWS)]
        totals = weights[np.concatenate(tables)].sum(axis=1)
    totals = totals[np.argsort(totals[:, 0], kind="stable")]
    smaller = [
        shape_for(int(totals[row, 0]), int(totals[: row + 1, 1].max()))
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


def padding(batches: Sequence[np.ndarray], sizes: Sizes, shapes: Sequence[BatchShape]) -> Padding:
    """Share of padding in an epoch of these batches."""
    chosen = [smallest_fitting(batch, sizes, shapes) for batch in batches]
    return Padding(
        edges=1 - int(sizes.edges.sum()) / max(1, sum(s.blocks * s.width for s in chosen)),
        atoms=1 - int(sizes.atoms.sum()) / sum(s.nodes for s in chosen),
        structures=1 - len(sizes.atoms) / sum(s.graphs for s in chosen),
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
