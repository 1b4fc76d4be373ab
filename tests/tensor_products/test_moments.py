"""Convolutions that sum neighbours before or at the points, against the sum over edges."""

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
from mlip.tensor_products.pointwise import (
    PointwiseConvolution,
    PointwiseMatrices,
    PointwiseProduct,
)
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


def compare(convolution, reference, graph):
    """The same messages from the same features, positions and weights."""
    shape = (8, dim(convolution.input_lmax), CHANNELS)
    features = np.random.default_rng(0).normal(size=shape)
    positions = jnp.asarray(graph.positions)
    actual = jax.jit(on_graph(convolution, graph))(features, positions)
    expected = jax.jit(on_graph(reference, graph))(features, positions)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * FLOAT64.relative)


class RandomPointwise(PointwiseProduct):
    """Five random points, and a degree 1 that is never reached."""

    def matrices(self, paths):
        rng = np.random.default_rng(0)
        shapes = [(dim(self.lmax1), 5), (dim(self.lmax2), 5), (5, dim(self.output_lmax))]
        matrices = [rng.normal(size=shape) for shape in shapes]
        matrices[2][:, 1:4] = 0
        return PointwiseMatrices(*matrices)


@pytest.mark.parametrize("weighting", ["degree", "shared"])
def test_sum_at_points_equals_the_sum_of_products_on_edges(graph, weighting):
    product = RandomPointwise(1, 1, 2)
    pointwise = PointwiseConvolution(product, weighting)
    assert pointwise.output_multiplicity == product.copies() == (1, 0, 1)
    compare(pointwise, EdgewiseConvolution(product, weighting), graph)


def test_pointwise_product():
    product, rng = RandomPointwise(1, 2, 2), np.random.default_rng(1)
    x, y = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 9, 1))
    first, second, analysis = product.matrices("even")
    values = np.einsum("ap,nac->npc", first, x) * np.einsum("bp,nbc->npc", second, y)
    expected = np.einsum("pk,npc->nkc", analysis, values)
    scalars, none, degree2 = product(jnp.asarray(x), jnp.asarray(y))
    assert none.shape == (3, 3, 0)
    np.testing.assert_allclose(scalars, expected[:, :1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(degree2, expected[:, 4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("weighting", ["degree", "shared"])
@pytest.mark.parametrize("degrees", [(1, 2, 2), (0, 2, 3)])
def test_equals_the_sum_of_products_on_edges(graph, degrees, weighting):
    product = GauntQuadrature(*degrees)
    moments = MomentConvolution(product, gaunt_tensor(*degrees), weighting)
    edgewise = EdgewiseConvolution(product, weighting)
    assert moments.num_weights == edgewise.num_weights
    assert moments.output_multiplicity == edgewise.output_multiplicity
    compare(moments, edgewise, graph)


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
