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
from mlip.tensor_products.gaunt import GauntGrid, GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import gaunt_tensor
from mlip.tensor_products.gaunt_convolution import GridPoints, gaunt_convolution
from mlip.tensor_products.moments import MomentConvolution
from mlip.tensor_products.pointwise import (
    MatrixPoints,
    PointwiseConvolution,
    PointwiseMatrices,
    PointwiseProduct,
)
from mlip.tensor_products.protocol import NEIGHBORS
from tests.support.potentials import ELEMENTS, molecule
from tests.tolerances import FLOAT64

CUTOFF, CHANNELS, ATOMS = 2.4, 2, 7


@pytest.fixture(scope="module")
def graph():
    structure = molecule(0, ATOMS)
    pairs = neighbor_list(structure, CUTOFF)
    shape = BatchShape(1, 8, count_blocks(pairs, ATOMS, 4) + 2, 4)
    return collate([structure], [pairs], ELEMENTS, shape, np.float64)


def on_graph(convolution, graph, num_weights):
    """The convolution as a function of features and positions, with weights zero on padding.

    Where it takes more weights than `num_weights`, these are repeated.
    """
    count, repeats = num_weights * CHANNELS, convolution.num_weights // num_weights

    def apply(features, positions):
        vectors = with_dummy_padding(graph, edge_vectors(graph, positions), 2 * CUTOFF)
        length, direction = lengths_and_directions(vectors)
        harmonics = spherical_harmonics(direction, convolution.harmonics_lmax)
        frequencies = 1.0 + jnp.arange(count, dtype=length.dtype)
        weights = jnp.sin(length[..., None] * frequencies[None, None])
        weights = jnp.where(graph.edge_mask[..., None], weights, jnp.zeros_like(weights))
        return convolution(features, harmonics, jnp.tile(weights, repeats), graph)

    return apply


def compare(convolution, reference, graph):
    """The same messages from the same features, positions and weights."""
    shape = (8, dim(convolution.input_lmax), CHANNELS)
    features = np.random.default_rng(0).normal(size=shape)
    positions = jnp.asarray(graph.positions)
    actual, expected = (
        jax.jit(on_graph(one, graph, convolution.num_weights))(features, positions)
        for one in (convolution, reference)
    )
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
    pointwise = PointwiseConvolution(product, MatrixPoints(product.matrices("even"), weighting))
    assert pointwise.num_weights == (1 if weighting == "shared" else 2)
    assert pointwise.output_multiplicity == product.copies() == (1, 0, 1)
    compare(pointwise, EdgewiseConvolution(product, "degree"), graph)


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


@pytest.mark.parametrize("degrees", [(1, 2, 2), (0, 2, 2)])
def test_equals_the_sum_of_products_on_edges(graph, degrees):
    product = GauntQuadrature(*degrees)
    edgewise = EdgewiseConvolution(product, "degree")
    for one in (
        MomentConvolution(product, gaunt_tensor(*degrees)),
        PointwiseConvolution(product, MatrixPoints(product.matrices("even"), "degree")),
        PointwiseConvolution(product, GridPoints(GauntGrid(*degrees))),
    ):
        assert one.num_weights == edgewise.num_weights
        assert one.output_multiplicity == edgewise.output_multiplicity
        compare(one, edgewise, graph)


@pytest.mark.parametrize("operator", [GauntQuadrature, GauntGrid])
def test_few_moments_are_preferred_to_points(operator):
    """As in MACE, but not for features of many degrees."""
    by_moments = [(0, 3, 3), (1, 3, 3), (1, 1, 1), (2, 2, 2)]
    at_points = [(3, 3, 3), (6, 6, 6)]
    for degrees, expected in (
        *((one, MomentConvolution) for one in by_moments),
        *((one, PointwiseConvolution) for one in at_points),
    ):
        assert isinstance(gaunt_convolution(operator(*degrees)), expected), degrees


def test_multiplications_are_counted_from_the_algorithm():
    """Of one edge and channel; those of an atom are divided among the edges it has on average."""
    degrees, d = (2, 3, 3), (9, 16, 16)
    moments = MomentConvolution(GauntQuadrature(*degrees), gaunt_tensor(*degrees))
    weighted, products = 4 * d[0], d[0] * d[1]
    assert moments.multiplies == weighted + products + d[0] * d[1] * d[2] // NEIGHBORS
    quadrature = GauntQuadrature(*degrees)
    points = len(quadrature.matrices("even").analysis)
    at_points = PointwiseConvolution(
        quadrature, MatrixPoints(quadrature.matrices("even"), "degree")
    )
    assert at_points.multiplies == points * (4 + 1) + points * (d[0] + d[2]) // NEIGHBORS
    rings, azimuths = 5, 10
    to_points, back = (rings * (2 * l + 1) * (l + 1 + azimuths) for l in (2, 3))
    on_grid = PointwiseConvolution(quadrature, GridPoints(GauntGrid(*degrees)))
    assert on_grid.multiplies == rings * azimuths * (4 + 1) + (to_points + back) // NEIGHBORS


@pytest.mark.parametrize(
    "convolution",
    [
        MomentConvolution(GauntQuadrature(1, 2, 1), gaunt_tensor(1, 2, 1)),
        PointwiseConvolution(GauntGrid(1, 2, 1), GridPoints(GauntGrid(1, 2, 1))),
    ],
    ids=["moments", "points"],
)
def test_second_derivatives_are_finite_with_padded_edges(graph, convolution):
    assert not np.all(graph.edge_mask)
    apply = on_graph(convolution, graph, 3)
    features = np.random.default_rng(0).normal(size=(8, dim(1), CHANNELS))

    def energy(positions):
        return sum(jnp.sum(part**2) for part in apply(jnp.asarray(features), positions))

    def loss(positions):
        return jnp.sum(jax.grad(energy)(positions) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(graph.positions))
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)
