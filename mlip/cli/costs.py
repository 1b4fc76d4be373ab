"""What an evaluation or a training step costs, by XLA's own count of the compiled program."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from mlip.data.collate import BatchShape, collate, collate_labels
from mlip.graph import Graph
from mlip.potential import evaluate
from mlip.training.loss import LossSettings
from mlip.training.state import SplitModel
from mlip.training.step import loss_and_gradient


class Cost(NamedTuple):
    """Cost of one call of a compiled program.

    Attributes:
        flops: floating-point operations.
        traffic: bytes read and written.
        memory: bytes of temporary storage.
    """

    flops: float
    traffic: float
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.flops / 1e9:.2f} GFLOP, {self.traffic / 1e9:.2f} GB of memory traffic, "
            f"{self.memory / 1e6:.0f} MB of working memory"
        )


def evaluation_cost(model: nnx.Module, shape: BatchShape, dtype: np.dtype | str) -> Cost:
    """Energies, forces and stresses of one batch of the given shape."""
    graph = _empty_graph(model, shape, dtype)
    graphdef, state = nnx.split(model)
    program = jax.jit(lambda state, graph: evaluate(nnx.merge(graphdef, state), graph))
    return _cost(program.lower(state, graph))


def training_cost(model: nnx.Module, shape: BatchShape, dtype: np.dtype | str) -> Cost:
    """Loss of energies and forces and its gradient by the weights, for one batch."""
    graph = _empty_graph(model, shape, dtype)
    labels = collate_labels([], {}, shape, np.dtype(dtype))
    settings = LossSettings()
    weights = settings.weights._replace(stress=None)
    split = SplitModel(model)
    program = jax.jit(
        lambda params, graph, labels: loss_and_gradient(
            split, params, split.constants, graph, labels, settings, weights
        )
    )
    return _cost(program.lower(split.params, graph, labels))


def _empty_graph(model: nnx.Module, shape: BatchShape, dtype: np.dtype | str) -> Graph:
    """A batch of padding: the cost depends on the shape alone."""
    elements = model.config.elements  # type: ignore[attr-defined]
    return collate([], [], elements, shape, np.dtype(dtype))


def _cost(lowered: jax.stages.Lowered) -> Cost:
    compiled = lowered.compile()
    analysis = compiled.cost_analysis()
    counts = analysis[0] if isinstance(analysis, list) else analysis or {}
    memory = compiled.memory_analysis()
    return Cost(
        float(counts.get("flops", float("nan"))),
        float(counts.get("bytes accessed", float("nan"))),
        float(memory.temp_size_in_bytes) if memory is not None else float("nan"),
    )
