"""Normalisation of features: one size for all degrees of an atom, or one for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.normalization import DegreeRMSNorm, EquivariantLayerNorm
from tests.tolerances import FLOAT64

CHANNELS = (6, 3)


@pytest.fixture
def norm():
    return DegreeRMSNorm(CHANNELS, dtype=jnp.float64)


def features(scale=1.0):
    rng = np.random.default_rng(0)
    return [jnp.asarray(scale * rng.normal(size=(4, 2 * l + 1, c))) for l, c in enumerate(CHANNELS)]


def test_the_weighted_mean_square_becomes_one(norm):
    scalars, vectors = norm(features(3.0))
    # C_l / (2l + 1): 6 and 1.
    size = (6 * np.mean(scalars**2, axis=(1, 2)) + np.mean(vectors**2, axis=(1, 2))) / 7
    np.testing.assert_allclose(size, 1.0, atol=1e-7)


def test_proportions_of_degrees_and_orders_are_kept(norm):
    before, after = features(), norm(features())
    factor = np.asarray(after[0] / before[0])[:, :1, :1]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old * factor, rtol=0, atol=10 * FLOAT64.relative)


def test_each_channel_has_a_scale(norm):
    before = np.asarray(norm(features())[1])
    norm.scale[1][...] = jnp.asarray([1.0, 2.0, -1.0])
    np.testing.assert_allclose(norm(features())[1], before * np.array([1.0, 2.0, -1.0]))


def test_an_atom_of_zeros_stays_zero_with_finite_derivatives(norm):
    zeros = features(0.0)
    assert all(not np.any(part) for part in norm(zeros))
    gradient = jax.jit(jax.grad(lambda parts: sum(jnp.sum(part) for part in norm(parts))))(zeros)
    assert all(np.all(np.isfinite(part)) for part in gradient)


@pytest.mark.parametrize("sizes", ["joint", "per_degree"])
def test_equivariant_layer_norm(sizes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 9, 3))
    layer = EquivariantLayerNorm(2, 3, sizes=sizes, dtype=jnp.float64)
    scale, bias = rng.normal(size=(3, 3)), rng.normal(size=3)
    layer.scale[...], layer.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    x[:, 0] += 5.0
    found = np.asarray(layer(jnp.asarray(x)))
    x[:, 0] -= x[:, 0].mean(axis=-1, keepdims=True)
    squares = [np.mean(x[:, l**2 : (l + 1) ** 2] ** 2, axis=(1, 2)) for l in range(3)]
    for l in range(3):
        square = squares[l] if sizes == "per_degree" else sum(squares) / 3
        factor = scale[l] / np.sqrt(square + 1e-5)[:, None, None]
        expected = x[:, l**2 : (l + 1) ** 2] * factor + (bias if l == 0 else 0.0)
        np.testing.assert_allclose(
            found[:, l**2 : (l + 1) ** 2], expected, rtol=0, atol=10 * FLOAT64.relative
        )


@pytest.mark.parametrize("sizes", ["joint", "per_degree"])
def test_equivariant_layer_norm_of_nothing(sizes):
    """Features of an atom without neighbours: finite to the second derivative."""
    layer = EquivariantLayerNorm(1, 2, sizes=sizes, dtype=jnp.float32)
    zero = jnp.zeros((1, 4, 2), jnp.float32)

    def squared_gradient(x):
        return jnp.sum(jax.grad(lambda y: jnp.sum(layer(y) ** 2 + layer(y)))(x) ** 2)

    assert not np.any(layer(zero))
    assert np.all(np.isfinite(jax.grad(squared_gradient)(zero)))
