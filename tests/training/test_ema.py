"""The running average of the weights."""

import jax.numpy as jnp
import numpy as np

from mlip.training.ema import update_ema


def test_the_average_starts_fast_and_then_keeps_its_decay():
    average, expected = {"w": jnp.array([10.0])}, 10.0
    for n in range(1, 400):
        weight = np.sin(n)
        average = update_ema(average, {"w": jnp.array([weight])}, 0.9, jnp.asarray(n))
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    np.testing.assert_allclose(average["w"], expected, rtol=1e-12)


def test_decay_zero_is_the_weights_themselves():
    weights = {"w": jnp.array([0.1, 1e-30, 3e7])}
    average = update_ema({"w": jnp.array([5.0, 5.0, 5.0])}, weights, 0.0, jnp.asarray(3))
    np.testing.assert_array_equal(average["w"], weights["w"])
