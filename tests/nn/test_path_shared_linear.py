"""One matrix for all degrees; the gate is what a full map and a gate after it would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.path_shared_linear import GatedLinear, PathSharedLinear
from tests.tolerances import FLOAT64


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 9, 3)))


def biased(layer):
    """With a bias that shows."""
    layer.bias[...] = jax.random.normal(jax.random.key(1), layer.bias.shape, jnp.float64)
    return layer


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=10 * FLOAT64.relative)


def test_one_matrix_and_a_bias_of_the_scalars(x):
    layer = biased(PathSharedLinear(3, 5, rngs=nnx.Rngs(0), dtype=jnp.float64))
    expected = np.asarray(x) @ np.asarray(layer.weight[...]) / np.sqrt(3)
    expected[:, :, 0] += np.asarray(layer.bias[...])
    close(layer(x), expected)
    plain = PathSharedLinear(3, 5, bias=False, rngs=nnx.Rngs(0), dtype=jnp.float64)
    assert not np.any(plain(jnp.zeros_like(x)))


def test_gate(x):
    layer = biased(GatedLinear(3, 4, rngs=nnx.Rngs(0), dtype=jnp.float64))
    full = np.asarray(x) @ np.asarray(layer.weight[...]) / np.sqrt(3)
    full[:, :, 0] += np.asarray(layer.bias[...])
    values, gates = full[..., :4], full[:, :, :1, 4:]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    expected = values * sigmoid(gates)
    expected[:, :, 0] = values[:, :, 0] * sigmoid(values[:, :, 0])
    close(layer(x), expected)
