"""Linear maps act within each degree and leave orders alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.linear import ElementLinear, EquivariantLinear, add_low_degrees, split_degrees
from tests.tolerances import FLOAT64


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 3)))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=10 * FLOAT64.relative)


def test_split_degrees(x):
    parts = split_degrees(x)
    assert [part.shape[1] for part in parts] == [1, 3, 5]
    close(jnp.concatenate(parts, axis=1), x)


def test_adding_features_that_stop_at_a_lower_degree(x):
    for degrees in (1, 2, 3):
        expected = np.array(x)
        expected[:, : degrees**2] *= 3.0
        close(add_low_degrees(x, 2.0 * x[:, : degrees**2]), expected)


def test_one_matrix_per_degree(x):
    layer = EquivariantLinear([3, 3, 3], 2, rngs=nnx.Rngs(0), dtype=jnp.float64)
    w0, w1, w2 = (np.asarray(weight[...]) for weight in layer.weights)
    expected = [
        part @ w / np.sqrt(3) for part, w in zip(split_degrees(x), (w0, w1, w2), strict=True)
    ]
    close(layer(split_degrees(x)), np.concatenate(expected, axis=1))


def test_inputs_may_differ_in_width(x):
    layer = EquivariantLinear([3, 6], 2, rngs=nnx.Rngs(0), dtype=jnp.float64)
    parts = split_degrees(x)[:2]
    wide = [parts[0], jnp.concatenate([parts[1], parts[1]], axis=2)]
    expected = np.asarray(wide[1]) @ np.asarray(layer.weights[1][...]) / np.sqrt(6)
    close(layer(wide)[:, 1:], expected)


def test_matrix_of_the_own_element_and_no_higher_degrees(x):
    layer = ElementLinear(2, 3, 5, 1, rngs=nnx.Rngs(0), dtype=jnp.float64)
    species = np.array([1, 0, 0, 1], np.int32)
    out = layer(x, jnp.asarray(species))
    assert out.shape == (4, 4, 5)
    for l, part in enumerate(split_degrees(x)[:2]):
        own = np.asarray(layer.weights[l][...])[:, species]  # (in, N, out)
        expected = np.einsum("nmi,ino->nmo", part, own) / np.sqrt(3 * 2)
        close(split_degrees(out)[l], expected)
