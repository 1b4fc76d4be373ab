"""The convolution that sums neighbours before the product against the one that does so after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.data.collate import BatchShape, collate, count_blocks
from mlip.data.neighbors import neighbor_list
from mlip.nn.geometry import edge_vectors, lengths_and_directions, with_dummy_padding
from mlip.nn.irreps import dim
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.edgewise import EdgewiseConvolution
from mlip.tensor_products.gaunt import GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import gaunt_tensor
from mlip.tensor_products.moments import MomentConvolution
from tests.support.potentials import ELEMENTS, molecule
from tests.tolerances import FLOAT64

CUTOFF, CHANNELS, ATOMS = 2.4, 2, 7


@pytest.fixture(scope="module")
def graph():
    structure = molecule(0, ATOMS)
    pairs = neighbor_list(structure, CUTOFF)
    shape = BatchShape(1, 8, count_blocks(pairs, ATOMS, 4) + 2, 4)
    return collate([structure], [pairs], ELEMENTS, shape, np.float64)


def on_graph(convolution, graph):
    """The convolution as a function of features and positions, with weights zero on padding."""
    count = convolution.num_weights * CHANNELS

    def apply(features, positions):
        vectors = with_dummy_padding(graph, edge_vectors(graph, positions), 2 * CUTOFF)
        length, direction = lengths_and_directions(vectors)
        harmonics = spherical_harmonics(direction, convolution.harmonics_lmax)
        frequencies = 1.0 + jnp.arange(count, dtype=length.dtype)
        weights = jnp.sin(length[..., None] * frequencies[None, None])
        weights = jnp.where(graph.edge_mask[..., None], weights, jnp.zeros_like(weights))
        return convolution(features, harmonics, weights, graph)

    return apply


@pytest.mark.parametrize("weighting", ["degree", "shared"])
@pytest.mark.parametrize("degrees", [(1, 2, 2), (0, 2, 3)])
def test_equals_the_sum_of_products_on_edges(graph, degrees, weighting):
    product = GauntQuadrature(*degrees)
    moments = MomentConvolution(product, gaunt_tensor(*degrees), weighting)
    edgewise = EdgewiseConvolution(product, weighting)
    assert moments.num_weights == edgewise.num_weights
    assert moments.output_multiplicity == edgewise.output_multiplicity
    features = np.random.default_rng(0).normal(size=(8, dim(degrees[0]), CHANNELS))
    positions = jnp.asarray(graph.positions)
    actual = jax.jit(on_graph(moments, graph))(features, positions)
    expected = jax.jit(on_graph(edgewise, graph))(features, positions)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * FLOAT64.relative)


def test_second_derivatives_are_finite_with_padded_edges(graph):
    assert not np.all(graph.edge_mask)
    product = GauntQuadrature(1, 2, 1)
    apply = on_graph(MomentConvolution(product, gaunt_tensor(1, 2, 1), "degree"), graph)
    features = np.random.default_rng(0).normal(size=(8, dim(1), CHANNELS))

    def energy(positions):
        return sum(jnp.sum(part**2) for part in apply(jnp.asarray(features), positions))

    def loss(positions):
        return jnp.sum(jax.grad(energy)(positions) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(graph.positions))
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)
