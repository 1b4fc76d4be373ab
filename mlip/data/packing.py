"""Packing structures of any sizes into batches of few static shapes.

A batch takes one structure from each *stratum*: the structures are sorted by size and cut into
`batch_size` strata, so that every batch holds small and large ones and all batches are almost
equally large. The epoch's order is random within each stratum, up to a few exchanges that keep
every batch within the largest shape: no batch can ever exceed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlip.data.collate import count_blocks
from mlip.data.neighbors import NeighborList

SLACK = 0.02  # of the largest shape over the mean batch, so that random batches can be found
MAX_EXCHANGES = 10_000  # of structures between batches of one epoch
PARTNERS = 256  # batches considered for one exchange


class Sizes(NamedTuple):
    """Sizes of each structure, each an integer array of shape (n,)."""

    atoms: np.ndarray
    edges: np.ndarray
    blocks: np.ndarray


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


def stratify(sizes: Sizes, num_batches: int) -> list[np.ndarray]:
    """Cut the structures, largest first, into strata with one structure per batch.

    Args:
        sizes: of all structures.
        num_batches: at most the number of structures.

    Returns:
        indices of each stratum; only the last may be shorter than the number of batches.
    """
    order = np.lexsort((-sizes.atoms, -sizes.blocks))
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
    _balance(table, sizes, slightly_above_mean(sizes, len(table)), np.random.default_rng(0))
    return table


def draw(
    strata: Sequence[np.ndarray],
    sizes: Sizes,
    limit: np.ndarray,
    fixed: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """A random arrangement in which every batch stays within `limit`.

    Each stratum is dealt to the batches in random order; then structures are exchanged between
    the fullest batch and others until all fit.

    Args:
        strata: from `stratify`.
        sizes: of all structures.
        limit: most blocks and atoms of a batch.
        fixed: from `arrange`; taken if the exchanges fail.
        generator: source of randomness.

    Returns:
        as `arrange`.
    """
    table = np.full((len(strata[0]), len(strata)), -1)
    for k, stratum in enumerate(strata):
        table[generator.permutation(len(table))[: len(stratum)], k] = stratum
    fits = _balance(table, sizes, limit, generator)
    return table if fits else fixed


def _balance(
    table: np.ndarray, sizes: Sizes, limit: np.ndarray, generator: np.random.Generator
) -> bool:
    """Exchange structures within strata until every batch has at most `limit` (blocks, atoms).

    Returns:
        whether that was reached; if not, the fullest batch is as small as the exchanges found.
    """
    weights = weights_of(sizes) / np.maximum(limit, 1)
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


def weights_of(sizes: Sizes) -> np.ndarray:
    """(blocks, atoms) of each structure and, last, so that index −1 finds it, of none."""
    return np.append(np.column_stack([sizes.blocks, sizes.atoms]), [[0, 0]], axis=0)


def slightly_above_mean(sizes: Sizes, num_batches: int) -> np.ndarray:
    """(blocks, atoms) of the mean batch plus `SLACK`."""
    mean = weights_of(sizes).sum(axis=0) / num_batches
    return np.ceil((1 + SLACK) * mean).astype(int)


def members(table: np.ndarray) -> list[np.ndarray]:
    """Indices of the structures in each batch of an arrangement."""
    return [row[row >= 0] for row in table]


def pack_window(sizes: Sizes, num_batches: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Pack the structures of a window of a stream into nearly equal batches, drawn at random.

    Args:
        sizes: of the structures of the window.
        num_batches: at most their number.
        generator: source of randomness.

    Returns:
        indices of the structures in each batch; batches differ by at most one structure.
    """
    strata = stratify(sizes, num_batches)
    limit = slightly_above_mean(sizes, num_batches)
    table = draw(strata, sizes, limit, arrange(strata, sizes), generator)
    return members(generator.permutation(table))
