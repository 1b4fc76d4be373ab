"""The fused convolution against the sum over edges that defines it."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.data.collate import BatchShape, collate, count_blocks
from mlip.data.neighbors import neighbor_list
from mlip.nn.geometry import edge_vectors
from mlip.nn.irreps import clebsch_gordan, coupling_paths, degree_slice
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.channelwise import ChannelwiseConvolution
from tests.support.potentials import ELEMENTS, molecule, moved
from tests.support.rotations import random_rotation, representation
from tests.tolerances import FLOAT64

CUTOFF, CHANNELS, INPUT, HARMONICS, OUTPUT = 2.4, 2, 1, 2, 2
CONVOLUTION = ChannelwiseConvolution(INPUT, HARMONICS, OUTPUT)
ATOMS = 7


def make_graph(structure, width):
    pairs = neighbor_list(structure, CUTOFF)
    blocks = count_blocks(pairs, ATOMS, width) + 2
    return collate([structure], [pairs], ELEMENTS, BatchShape(1, 8, blocks, width), np.float64)


def edge_quantities(graph):
    """Lengths, harmonics and weights (a function of the length, zero on padding) of all edges."""
    vectors = np.asarray(edge_vectors(graph, jnp.asarray(graph.positions)))
    vectors = np.where(graph.edge_mask[..., None], vectors, [0.0, 0.0, 1.0])
    length = np.linalg.norm(vectors, axis=-1)
    harmonics = spherical_harmonics(jnp.asarray(vectors / length[..., None]), HARMONICS)
    frequencies = 1.0 + np.arange(CONVOLUTION.num_weights * CHANNELS)
    weights = np.sin(length[..., None] * frequencies) * graph.edge_mask[..., None]
    return harmonics, weights


@nnx.jit
def jitted(features, harmonics, weights, graph):
    return CONVOLUTION(features, harmonics, weights, graph)


def convolve(structure, features, width=4):
    graph = make_graph(structure, width)
    harmonics, weights = edge_quantities(graph)
    padded = jnp.zeros((graph.num_nodes, *features.shape[1:])).at[:ATOMS].set(features)
    parts = jitted(padded, harmonics, jnp.asarray(weights), graph)
    assert all(not np.any(part[ATOMS:]) for part in parts)
    return [np.asarray(part[:ATOMS]) for part in parts]


@pytest.fixture(scope="module")
def structure():
    return molecule(0, ATOMS)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(ATOMS, (INPUT + 1) ** 2, CHANNELS))


@pytest.fixture(scope="module")
def messages(structure, features):
    return convolve(structure, features)


def close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * FLOAT64.relative)


def test_equals_the_sum_over_edges(structure, features, messages):
    graph = make_graph(structure, 4)
    harmonics, weights = edge_quantities(graph)
    y = np.stack(harmonics, axis=-1)
    multiplicity = CONVOLUTION.output_multiplicity
    expected = [np.zeros((ATOMS, 2 * l + 1, n, CHANNELS)) for l, n in enumerate(multiplicity)]
    for block, receiver in enumerate(graph.receivers):
        for edge in np.flatnonzero(graph.edge_mask[block]):
            sender = features[graph.senders[block, edge]]
            seen = [0] * (OUTPUT + 1)
            weight = weights[block, edge].reshape(-1, CHANNELS)
            for p, (l1, l2, l3) in enumerate(coupling_paths(INPUT, HARMONICS, OUTPUT)):
                product = np.einsum(
                    "abm,ac,b->mc",
                    np.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3),
                    sender[degree_slice(l1)],
                    y[block, edge, degree_slice(l2)],
                )
                expected[l3][receiver, :, seen[l3]] += weight[p] * product
                seen[l3] += 1
    close(messages, [array.reshape(*array.shape[:2], -1) for array in expected])


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_equivariance(structure, features, messages, sign):
    matrix = sign * random_rotation(2)
    d = representation(matrix, OUTPUT)
    small = d[: features.shape[1], : features.shape[1]]
    rotated = convolve(
        moved(structure, structure.positions @ matrix.T), np.einsum("xa,nac->nxc", small, features)
    )
    expected = [
        np.einsum("xm,nmc->nxc", d[degree_slice(l), degree_slice(l)], part)
        for l, part in enumerate(messages)
    ]
    close(rotated, expected)


def test_block_width_does_not_matter(structure, features, messages):
    close(convolve(structure, features, width=3), messages)
