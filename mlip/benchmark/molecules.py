"""A batch of made-up molecules, as large as one in a training step."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from mlip.data.collate import BatchShape, collate, count_blocks
from mlip.data.neighbors import NeighborList, neighbor_list
from mlip.data.packing import neighbor_counts
from mlip.data.shapes import choose_width
from mlip.data.structure import Structure
from mlip.graph import Graph
from mlip.nn.geometry import edge_vectors, lengths_and_directions, with_dummy_padding
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.runtime import Precision

MOLECULES, ATOMS = 5, 27
CUTOFF = 5.0  # Å
BOX = np.array([4.0, 4.0, 10.0])  # Å, so that an atom has 17 neighbours
CLOSEST = 1.2  # Å


@cache
def molecules(precision: Precision) -> Graph:
    """Five molecules of 27 atoms with 2336 edges, as arrays of numpy."""
    structures, pairs = _structures()
    width = choose_width(neighbor_counts([ATOMS] * MOLECULES, pairs))
    blocks = sum(count_blocks(one, ATOMS, width) for one in pairs)
    shape = BatchShape(MOLECULES, MOLECULES * ATOMS, blocks, width)
    return collate(structures, pairs, (6,), shape, np.dtype(precision))


def num_edges() -> int:
    """Edges of the batch without padding."""
    return sum(len(pairs.receivers) for pairs in _structures()[1])


def edge_harmonics(graph: Graph, lmax: int) -> list[jax.Array]:
    """Harmonics of degrees 0..lmax of the edges, (lmax + 1)² arrays of shape (B, W)."""
    vectors = with_dummy_padding(graph, edge_vectors(graph, jnp.asarray(graph.positions)), CUTOFF)
    return spherical_harmonics(lengths_and_directions(vectors)[1], lmax)


@cache
def _structures() -> tuple[list[Structure], list[NeighborList]]:
    random = np.random.default_rng(0)
    structures = [Structure(np.full(ATOMS, 6), _positions(random)) for _ in range(MOLECULES)]
    return structures, [neighbor_list(structure, CUTOFF) for structure in structures]


def _positions(random: np.random.Generator) -> np.ndarray:
    """Points in a box, one after the other, none close to another; Å, shape (27, 3)."""
    found = np.empty((0, 3))
    while len(found) < ATOMS:
        point = random.uniform(-0.5, 0.5, 3) * BOX
        if np.all(np.linalg.norm(found - point, axis=1) > CLOSEST):
            found = np.vstack([found, point])
    return found
