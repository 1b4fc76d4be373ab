"""The hot path: one compiled training step and one compiled evaluation step per batch shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

from mlip.data.collate import BatchShape
from mlip.graph import Graph, Labels
from mlip.potential import evaluate
from mlip.training.ema import update_ema
from mlip.training.loss import LossMetrics, LossSettings, LossWeights, loss
from mlip.training.state import SplitModel, TrainState


class StepMetrics(NamedTuple):
    """What a step says of its batch.

    Attributes:
        loss: value of the loss.
        grad_norm: norm of the gradient before clipping; zero in evaluation.
        ok: loss and gradient are finite, and so they were in all steps before.
        errors: sums of squared errors.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    ok: Bool[Array, ""]
    errors: LossMetrics


class Compilation(NamedTuple):
    """One compilation.

    Attributes:
        function: `train_step` or `eval_step`.
        shape: the batch shape it was for.
        seconds: tracing and compiling.
    """

    function: str
    shape: BatchShape
    seconds: float


def loss_and_gradient(
    split: SplitModel,
    params: dict[str, Array],
    constants: PyTree,
    graph: Graph,
    labels: Labels,
    settings: LossSettings,
    weights: LossWeights,
) -> tuple[Float[Array, ""], LossMetrics, dict[str, Array]]:
    """The loss of a batch and its gradient by the weights.

    Returns:
        Loss, error sums, and the gradient in the layout of `params`.
    """

    def objective(params: dict[str, Array]) -> tuple[Float[Array, ""], LossMetrics]:
        model = split.merge(params, constants)
        output = evaluate(model, graph, energy_only=weights.energy_only)
        return loss(output, graph, labels, settings, weights)

    (value, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    return value, metrics, gradient


class Steps:
    """The training and evaluation step of one model, compiled once for each batch shape.

    Args:
        split: the model.
        optimizer: made by `build_optimizer`.
        settings: shape of the loss.
        ema_decay: decay of the weight average.
        compiling: called with function name and shape before a compilation.
        compiled: called after it.
    """

    def __init__(
        self,
        split: SplitModel,
        optimizer: optax.GradientTransformationExtraArgs,
        settings: LossSettings,
        ema_decay: float,
        compiling: Callable[[str, BatchShape], None],
        compiled: Callable[[Compilation], None],
    ) -> None:
        self._split, self._optimizer = split, optimizer
        self._settings, self._ema_decay = settings, ema_decay
        self._compiling, self._compiled = compiling, compiled
        self._programs: dict[tuple[str, BatchShape], Callable[..., Any]] = {}
        self._jitted = {
            "train_step": jax.jit(self._train, donate_argnums=0),
            "eval_step": jax.jit(self._evaluate),
        }

    def train(
        self, state: TrainState, graph: Graph, labels: Labels, lr: float, weights: LossWeights
    ) -> tuple[TrainState, StepMetrics]:
        """One optimiser step; `state` is consumed. Returns at once, before the device is done."""
        dtype = graph.positions.dtype
        rate = np.asarray(lr, dtype)
        return self._run("train_step", state, graph, labels, rate, _cast(weights, dtype))

    def evaluate(
        self, params: dict[str, Array], graph: Graph, labels: Labels, weights: LossWeights
    ) -> StepMetrics:
        """Loss and errors of a batch without changing anything."""
        weights = _cast(weights, graph.positions.dtype)
        return self._run("eval_step", params, graph, labels, weights)

    def _run(self, function: str, first: PyTree, graph: Graph, labels: Labels, *rest: Any) -> Any:
        shape = BatchShape(graph.num_graphs, graph.num_nodes, *graph.senders.shape)
        arguments = (first, self._split.constants, graph, labels, *rest)
        program = self._programs.get((function, shape))
        if program is None:
            self._compiling(function, shape)
            start = time.perf_counter()
            program = self._jitted[function].lower(*arguments).compile()
            self._programs[function, shape] = program
            self._compiled(Compilation(function, shape, time.perf_counter() - start))
        return program(*arguments)

    def _train(
        self,
        state: TrainState,
        constants: PyTree,
        graph: Graph,
        labels: Labels,
        lr: Float[Array, ""],
        weights: LossWeights,
    ) -> tuple[TrainState, StepMetrics]:
        value, errors, gradient = loss_and_gradient(
            self._split, state.params, constants, graph, labels, self._settings, weights
        )
        norm = optax.tree.norm(gradient)
        ok = jnp.isfinite(value) & jnp.isfinite(norm) & ~state.failed
        hyperparams = {**state.optimizer.hyperparams, "learning_rate": lr}
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            updates, opt_state = self._optimizer.update(
                gradient, state.optimizer._replace(hyperparams=hyperparams), state.params
            )
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        ema = update_ema(state.ema, params, self._ema_decay, step)
        advanced = TrainState(params, ema, opt_state, step, state.failed)
        kept = jax.tree.map(partial(jnp.where, ok), advanced, state)
        return replace(kept, failed=~ok), StepMetrics(value, norm, ok, errors)

    def _evaluate(
        self,
        params: dict[str, Array],
        constants: PyTree,
        graph: Graph,
        labels: Labels,
        weights: LossWeights,
    ) -> StepMetrics:
        model = self._split.merge(params, constants)
        output = evaluate(model, graph, energy_only=weights.energy_only)
        value, errors = loss(output, graph, labels, self._settings, weights)
        return StepMetrics(value, jnp.zeros_like(value), jnp.isfinite(value), errors)


def _cast(weights: LossWeights, dtype: np.dtype) -> LossWeights:
    return jax.tree.map(lambda weight: np.asarray(weight, dtype), weights)
