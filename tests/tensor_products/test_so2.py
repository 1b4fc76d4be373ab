"""The convolution in edge frames against the Clebsch–Gordan convolution, and its symmetries."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.data.collate import BatchShape, collate, count_blocks
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.nn.geometry import edge_vectors, lengths_and_directions, with_dummy_padding
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.build import build_convolution, build_product
from mlip.tensor_products.channelwise import ChannelwiseConvolution
from mlip.tensor_products.so2 import SO2Convolution, SO2Settings
from tests.support.potentials import ELEMENTS, mace_config, moved, outputs, potential_of
from tests.support.rotations import random_rotation, representation
from tests.tolerances import FLOAT64

CUTOFF, CHANNELS, INPUT, OUTPUT, WIDTH = 2.4, 2, 2, 3, 4
HARMONICS = INPUT + OUTPUT
TIGHT = 1e2 * FLOAT64.relative
# A cross of bonds along all axes, both ways, and two atoms off them.
POSITIONS = 1.2 * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [1, 1, 0.3]]
)
CROSS = Structure(np.resize(np.array(ELEMENTS), len(POSITIONS)).astype(np.int32), POSITIONS)
ATOMS = len(POSITIONS)
PAIRS = neighbor_list(CROSS, CUTOFF)
SHAPE = BatchShape(1, ATOMS + 1, count_blocks(PAIRS, ATOMS, WIDTH) + 1, WIDTH)
GRAPH = jax.tree.map(jnp.asarray, collate([CROSS], [PAIRS], ELEMENTS, SHAPE, np.float64))
FEATURES = np.random.default_rng(0).normal(size=(ATOMS + 1, (INPUT + 1) ** 2, CHANNELS))
FULL = SO2Convolution(INPUT, HARMONICS, OUTPUT)
MASK = jnp.asarray(GRAPH.edge_mask[..., None], jnp.float64)


def lengths_and_harmonics(positions, lmax):
    vectors = with_dummy_padding(GRAPH, edge_vectors(GRAPH, positions), 2 * CUTOFF)
    length, direction = lengths_and_directions(vectors)
    return length, spherical_harmonics(direction, lmax)


def convolve(convolution, positions, features=FEATURES):
    """All degrees of the messages side by side, with weights that are functions of the length."""
    length, harmonics = lengths_and_harmonics(positions, convolution.harmonics_lmax)
    frequencies = 1.0 + jnp.arange(convolution.num_weights * CHANNELS, dtype=length.dtype)
    weights = jnp.sin(length[..., None] * frequencies[None, None])
    return jnp.concatenate(convolution(features, harmonics, weights * MASK, GRAPH), axis=1)


def positions_with(matrix=None):
    padded = np.zeros((ATOMS + 1, 3))
    padded[:ATOMS] = POSITIONS if matrix is None else POSITIONS @ matrix.T
    return jnp.asarray(padded)


@pytest.mark.parametrize("mmax", [None, 1, 0])
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_equivariance(mmax, sign):
    convolution = SO2Convolution(INPUT, HARMONICS, OUTPUT, mmax)
    run = jax.jit(lambda positions, features: convolve(convolution, positions, features))
    matrix = sign * random_rotation(2)
    d = representation(matrix, OUTPUT)
    small = d[: FEATURES.shape[1], : FEATURES.shape[1]]
    rotated = run(positions_with(matrix), np.einsum("xa,nac->nxc", small, FEATURES))
    expected = np.einsum("xm,nmc->nxc", d, run(positions_with(), FEATURES))
    np.testing.assert_allclose(rotated, expected, rtol=0, atol=TIGHT)


def spanned(convolution):
    """The result for each weight on all edges at once, copies added: one column each."""
    _, harmonics = lengths_and_harmonics(positions_with(), convolution.harmonics_lmax)
    one_channel = jnp.asarray(FEATURES[..., :1])

    @jax.jit
    @jax.vmap
    def columns(weight):
        parts = convolution(one_channel, harmonics, weight[None, None] * MASK, GRAPH)
        sums = [part.reshape(*part.shape[:2], -1).sum(axis=-1) for part in parts]
        return jnp.concatenate(sums, axis=1).reshape(-1)

    return np.asarray(columns(jnp.eye(convolution.num_weights))).T


def test_spans_the_same_maps_as_clebsch_gordan():
    ours, theirs = spanned(FULL), spanned(ChannelwiseConvolution(INPUT, HARMONICS, OUTPUT))
    assert ours.shape == theirs.shape
    for target, basis in ((ours, theirs), (theirs, ours)):
        fitted, *_ = np.linalg.lstsq(basis, target, rcond=None)
        np.testing.assert_allclose(basis @ fitted, target, rtol=0, atol=1e-10)


def test_truncation_drops_the_weights_of_high_orders():
    assert FULL.num_weights == 3 * 4 + 2 * 3 + 1 * 2
    assert SO2Convolution(INPUT, HARMONICS, OUTPUT, 1).num_weights == 3 * 4 + 2 * 3
    few, all_ = (spanned(SO2Convolution(INPUT, 1, OUTPUT, mmax)) for mmax in (1, 7))
    assert all_.shape[1] == FULL.num_weights
    assert np.linalg.matrix_rank(np.concatenate([few, all_], axis=1)) == FULL.num_weights


def test_unit_variance():
    rng = np.random.default_rng(3)
    edges = 2000
    graph = GRAPH.replace(
        senders=np.arange(edges)[:, None], receivers=np.arange(edges), species=np.zeros(edges)
    )
    directions = rng.normal(size=(edges, 1, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    convolution = SO2Convolution(1, 1, 2)
    parts = jax.jit(partial(convolution, graph=graph))(
        jnp.asarray(rng.normal(size=(edges, 4, 1))),
        spherical_harmonics(jnp.asarray(directions), 1),
        jnp.asarray(rng.normal(size=(edges, 1, convolution.num_weights))),
    )
    for part in parts:
        assert np.mean(np.asarray(part) ** 2) == pytest.approx(1.0, abs=0.15)


def test_forces_in_mace_with_bonds_along_the_axes():
    """Bonds at the poles, where angles would fail, and on the border between the two charts."""
    config = mace_config(lmax=2, correlation=1, cutoff=2.0, convolution={"name": "so2"})
    potential = potential_of(config, seed=1)
    step = 1e-4
    directions = np.random.default_rng(0).normal(size=(3, ATOMS, 3))
    displaced = [
        moved(CROSS, POSITIONS + sign * step * direction)
        for direction in directions
        for sign in (1, -1)
    ]
    plain, *others = outputs(potential, [CROSS, *displaced])
    differences = [
        (plus.energy - minus.energy) / (2 * step)
        for plus, minus in zip(others[::2], others[1::2], strict=True)
    ]
    expected = [-np.sum(plain.forces * direction) for direction in directions]
    np.testing.assert_allclose(differences, expected, rtol=FLOAT64.finite_difference, atol=1e-6)


def test_second_derivatives_are_finite():
    convolution = SO2Convolution(1, 1, 1)

    def energy(positions):
        return jnp.sum(jnp.sin(convolve(convolution, positions, FEATURES[:, :4])))

    def force_norm(positions):
        return jnp.sum(jax.grad(energy)(positions) ** 2)

    assert np.all(np.isfinite(jax.jit(jax.grad(force_norm))(positions_with())))


def test_harmonics_without_a_direction_are_refused():
    with pytest.raises(MlipError, match="degree 1"):
        build_convolution(SO2Settings(), 1, 0, 1)
    assert build_convolution(SO2Settings(), 0, 0, 0).num_weights == 1


def test_is_no_product_of_two_features():
    with pytest.raises(MlipError, match="so2 cannot be used as"):
        build_product(SO2Settings(), 1, 1, 1)
