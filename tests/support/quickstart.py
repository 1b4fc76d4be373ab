"""A few real molecules, and a short training on them."""

from __future__ import annotations

from functools import cache
from itertools import chain, count, islice
from typing import Any, NamedTuple

from flax import nnx

from mlip.data.dataset import load_dataset
from mlip.data.pipeline import Batches
from mlip.data.statistics import Statistics, compute_statistics
from mlip.data.structure import Structure
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel, initial_state
from mlip.training.step import Steps

CUTOFF = 3.0
BATCH = 4  # structures
LEARNING_RATE = 0.03


class Molecules(NamedTuple):
    structures: list[Structure]
    elements: tuple[int, ...]
    e0: dict[int, float]
    batches: Batches
    statistics: Statistics


@cache
def molecules(number: int = BATCH) -> Molecules:
    """The first training molecules of the quickstart data, in batches of four."""
    from mlip.cli.compose import compose
    from mlip.cli.schema import SCHEMAS
    from mlip.cli.validate import validate

    settings = validate(SCHEMAS["train"], compose("train", ["dataset=quickstart"])).dataset
    dataset = load_dataset(settings)
    structures = dataset.train[:number]
    batches = Batches(
        structures,
        cutoff=CUTOFF,
        elements=dataset.elements,
        e0=dataset.e0.values,
        batch_size=BATCH,
        dtype="float64",
        seed=0,
    )
    statistics = compute_statistics(structures, batches.neighbors, dataset.e0.values)
    return Molecules(structures, dataset.elements, dataset.e0.values, batches, statistics)


def train(model: nnx.Module, steps: int, data: Molecules | None = None) -> tuple[Any, list[float]]:
    """A model with the weights after some steps on the molecules, and the loss of each step.

    The learning rate falls to zero, so that the last weights are good ones.
    """
    split = SplitModel(model)
    transform = build_optimizer(OptimizerSettings(clip_norm=10.0), split.decay_mask(model))
    loss = LossSettings()
    program = Steps(split, transform, loss, 0.9, lambda function, shape: None, lambda done: None)
    state = initial_state(split.params, transform)
    batches = (data or molecules()).batches
    epochs = chain.from_iterable(batches.epoch(epoch) for epoch in count())
    losses = []
    for step, batch in enumerate(islice(epochs, steps)):
        rate = LEARNING_RATE * (1 - step / steps)
        state, metrics = program.train(
            state, batch.graph, batch.labels, rate, loss.weights._replace(stress=None)
        )
        losses.append(float(metrics.loss))
    return split.merge(state.params, split.constants), losses
