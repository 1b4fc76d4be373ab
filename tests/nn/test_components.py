"""Taking and summing components are adjoint, at any order of differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.components import sum_components, take_components
from tests.tolerances import FLOAT64

INDEX, SIZE = (2, 0, 2, 3, 2), 5


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, SIZE, 3))), jnp.asarray(rng.normal(size=(2, 5, 3)))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=10 * FLOAT64.relative)


def test_values(arrays):
    x, y = arrays
    close(take_components(x, INDEX, SIZE), np.asarray(x)[:, INDEX])
    expected = np.zeros((2, SIZE, 3))
    for k, index in enumerate(INDEX):
        expected[:, index] += y[:, k]
    close(sum_components(y, INDEX, SIZE), expected)


def test_adjoint(arrays):
    x, y = arrays
    close(jnp.vdot(take_components(x, INDEX, SIZE), y), jnp.vdot(x, sum_components(y, INDEX, SIZE)))


def test_second_order_gradients(arrays):
    """The gradient of a squared gradient, as a loss on forces needs it."""

    def plain(x):
        return jnp.sum(jnp.sin(x[:, np.array(INDEX)]) ** 3)

    def ours(x):
        return jnp.sum(jnp.sin(take_components(x, INDEX, SIZE)) ** 3)

    def squared_force(energy):
        return jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(energy)(x) ** 2)))

    x = arrays[0]
    close(squared_force(ours)(x), squared_force(plain)(x))


def test_vmap_and_float32(arrays):
    x, y = arrays
    each = jax.vmap(lambda a: take_components(a, INDEX, SIZE))(x)
    close(each, take_components(x, INDEX, SIZE))
    each = jax.vmap(lambda a: sum_components(a, INDEX, SIZE))(y)
    close(each, sum_components(y, INDEX, SIZE))
    assert sum_components(y.astype(jnp.float32), INDEX, SIZE).dtype == np.float32
