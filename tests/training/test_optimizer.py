"""Optimisers: torch's AMSGrad, decay only where asked, and names that are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.errors import MlipError
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel

PARAMS = {"decays": jnp.array([1.0, -2.0]), "stays": jnp.array([0.5])}
MASK = {"decays": True, "stays": False}


def run(settings, gradients, params=PARAMS, mask=MASK):
    """Parameters after a step per gradient."""
    optimizer = build_optimizer(settings, mask)
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
    return params


def gradients(count=6, seed=0):
    """Gradients that shrink, so that AMSGrad's maximum matters."""
    rng = np.random.default_rng(seed)
    return [
        {name: jnp.asarray(rng.normal(size=p.shape) / (1 + k) ** 2) for name, p in PARAMS.items()}
        for k in range(count)
    ]


def torch_amsgrad(params, grads, lr, decay, b1=0.9, b2=0.999, eps=1e-8):
    """The recurrence of torch.optim.Adam(amsgrad=True), for one array."""
    m, v, largest = 0.0, 0.0, 0.0
    for t, gradient in enumerate(grads, start=1):
        gradient = gradient + decay * params
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        largest = np.maximum(largest, v)
        denominator = np.sqrt(largest) / np.sqrt(1 - b2**t) + eps
        params = params - lr / (1 - b1**t) * m / denominator
    return params


def test_amsgrad_follows_torch_and_decays_only_the_declared_weights():
    grads = gradients()
    settings = OptimizerSettings(lr=0.1, weight_decay=0.3, clip_norm=None)
    result = run(settings, grads)
    for name, decay in (("decays", 0.3), ("stays", 0.0)):
        expected = torch_amsgrad(
            np.asarray(PARAMS[name]), [np.asarray(g[name]) for g in grads], 0.1, decay
        )
        np.testing.assert_allclose(result[name], expected, rtol=1e-12)


def test_adamw_decays_apart_from_the_gradient():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    result = run(OptimizerSettings(name="adamw", lr=0.1, weight_decay=0.5), [zero])
    np.testing.assert_allclose(result["decays"], 0.95 * np.asarray(PARAMS["decays"]), rtol=1e-12)
    np.testing.assert_array_equal(result["stays"], PARAMS["stays"])


def test_matrices_decay_in_a_model_that_declares_nothing():
    class Model(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((2, 3)))
            self.per_element = nnx.Param(jnp.ones((2, 4, 3)))
            self.bias = nnx.Param(jnp.ones(3))
            self.scale = nnx.Param(jnp.ones(()))

    model = Model()
    mask = SplitModel(model).decay_mask(model)
    assert mask == {"bias": False, "per_element": True, "scale": False, "weight": True}


def test_clipping_shortens_the_whole_gradient():
    gradient = {"decays": jnp.array([3.0, 0.0]), "stays": jnp.array([4.0])}
    settings = OptimizerSettings(name="sgd", lr=1.0, weight_decay=0.0, clip_norm=1.0)
    result = run(settings, [gradient])
    np.testing.assert_allclose(result["decays"], [1.0 - 0.6, -2.0], rtol=1e-12)
    np.testing.assert_allclose(result["stays"], [0.5 - 0.8], rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "lion", "rmsprop", "adabelief", "radam", "lamb"])
def test_any_optimiser_of_optax_takes_a_step(name):
    result = run(OptimizerSettings(name=name, lr=0.01), gradients(1))
    assert all(np.all(np.isfinite(value)) for value in result.values())
    assert any(np.any(result[key] != PARAMS[key]) for key in PARAMS)


def test_arguments_reach_the_optimiser():
    plain = run(OptimizerSettings(), gradients(3))
    other = run(OptimizerSettings(arguments={"b1": 0.0}), gradients(3))
    assert not np.allclose(plain["decays"], other["decays"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "adamm"}, "did you mean 'adam"),
        ({"name": "frobnicate"}, "known: "),
        ({"arguments": {"bata1": 0.9}}, "'bata1' is no argument of amsgrad"),
        ({"arguments": {"learning_rate": 0.1}}, "no argument of amsgrad"),
        ({"lr": 0.0}, "greater than 0"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        OptimizerSettings(**given)


def test_a_value_the_optimiser_refuses_is_named():
    settings = OptimizerSettings(name="adafactor", arguments={"decay_rate": "fast"})
    with pytest.raises(MlipError, match="refused by adafactor"):
        run(settings, gradients(1))
