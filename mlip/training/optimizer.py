"""Optimisers: MACE's AMSGrad, AdamW, and any other of optax by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from pydantic import Field, field_validator, model_validator

from mlip.errors import MlipError
from mlip.settings import Settings

# These need more than gradients and weights: a random key, the loss itself or a line search.
_UNSUITABLE = {"noisy_sgd", "dpsgd", "lbfgs", "polyak_sgd", "sm3"}


class OptimizerSettings(Settings):
    """The optimiser, its learning rate, weight decay and gradient clipping."""

    name: str = Field("amsgrad", description="amsgrad (as in MACE), adamw, or any of optax")
    lr: float = Field(0.01, gt=0.0, description="learning rate before the schedule")
    weight_decay: float = Field(
        5e-7,
        ge=0.0,
        description=(
            "decay of the weights the model declares: decoupled where the optimiser has it "
            "(adamw, lion, …), otherwise added to the gradient"
        ),
    )
    clip_norm: float | None = Field(
        10.0, gt=0.0, description="largest norm of the whole gradient; null for no clipping"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the optimiser, such as b1, eps"
    )

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        if name not in _factories():
            raise ValueError(_unknown("optimiser", name, _factories()))
        return name

    @model_validator(mode="after")
    def _known_arguments(self) -> OptimizerSettings:
        allowed = _arguments(self.name)
        for key in self.arguments:
            if key not in allowed:
                raise ValueError(_unknown(f"argument of {self.name}", key, allowed))
        return self


def build_optimizer(
    settings: OptimizerSettings, decay_mask: Mapping[str, bool]
) -> optax.GradientTransformationExtraArgs:
    """Clipping, weight decay and the optimiser, with the learning rate as part of its state.

    Args:
        settings: what to build.
        decay_mask: true for the weights that decay.

    Raises:
        MlipError: when an argument has a value the optimiser refuses.
    """
    factory = _factories()[settings.name]
    parameters = inspect.signature(factory).parameters
    arguments = dict(settings.arguments)
    decay = settings.weight_decay
    decoupled = "weight_decay" in parameters and "mask" in parameters
    if decoupled:
        arguments["weight_decay"] = decay
        if decay > 0.0:
            arguments["mask"] = dict(decay_mask)

    def chain(learning_rate: Array) -> optax.GradientTransformation:
        parts = []
        if settings.clip_norm is not None:
            parts.append(optax.clip_by_global_norm(settings.clip_norm))
        if decay > 0.0 and not decoupled:
            parts.append(optax.add_decayed_weights(decay, mask=dict(decay_mask)))
        return optax.chain(*parts, factory(learning_rate, **arguments))

    def trial(params: dict[str, Array]) -> None:
        with jax.numpy_dtype_promotion("standard"):
            transform = chain(jnp.asarray(settings.lr, jnp.float32))
            transform.update(params, transform.init(params), params)

    names = decay_mask or {"weight": False}
    try:  # on shapes alone: optax looks at some arguments only when it updates
        jax.eval_shape(trial, dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.float32)))
    except (TypeError, ValueError) as error:
        raise MlipError(
            f"optimizer.arguments={settings.arguments} was refused by {settings.name}: {error}; "
            "correct the value."
        ) from error
    return optax.inject_hyperparams(chain)(learning_rate=settings.lr)


class AmsgradState(NamedTuple):
    """Steps done, first and second moments, and the largest second moment so far."""

    steps: Int[Array, ""]
    mu: optax.Updates
    nu: optax.Updates
    nu_max: optax.Updates


def amsgrad(
    learning_rate: Array | float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """AMSGrad as in torch, hence as in MACE.

    m ← b1 m + (1 − b1) g, v ← b2 v + (1 − b2) g², V ← max(V, v),
    Δ = −lr m / (1 − b1^t) / (√(V / (1 − b2^t)) + eps).

    optax.amsgrad takes the maximum of v / (1 − b2^t) instead: there the large gradients of the
    first steps, which that correction magnifies a thousandfold, hold the step size down forever.

    Args:
        learning_rate: lr.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the denominator.
    """

    def init(params: optax.Params) -> AmsgradState:
        zeros = optax.tree.zeros_like(params)
        return AmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(
        updates: optax.Updates, state: AmsgradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AmsgradState]:
        del params
        steps = state.steps + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)

        def delta(m: Array, v: Array) -> Array:
            t = steps.astype(m.dtype)
            lr = jnp.asarray(learning_rate, m.dtype)
            return -lr * m / (1.0 - b1**t) / (jnp.sqrt(v / (1.0 - b2**t)) + eps)

        return jax.tree.map(delta, mu, nu_max), AmsgradState(steps, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


@cache
def _factories() -> dict[str, Any]:
    """Optimisers by name: the functions of optax that begin with a learning rate."""
    found = {}
    for name, function in vars(optax).items():
        if inspect.isfunction(function) and name not in _UNSUITABLE and not name.startswith("_"):
            parameters = list(inspect.signature(function).parameters)
            if parameters[:1] == ["learning_rate"]:
                found[name] = function
    return found | {"amsgrad": amsgrad}


def _arguments(name: str) -> set[str]:
    """Arguments a user may give; decay and its mask are options of their own."""
    reserved = {"learning_rate", "weight_decay", "mask"}
    return set(inspect.signature(_factories()[name]).parameters) - reserved


def _unknown(what: str, name: str, known: Mapping[str, Any] | set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}."
    return f"{name!r} is no {what}; {hint}"
