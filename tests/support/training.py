"""A small trainable potential, labelled clusters and settings for the tests of training."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip.data.frames import Frames, Part
from mlip.data.pipeline import Batches
from mlip.data.streaming import StreamedBatches
from mlip.data.structure import Structure
from mlip.settings import Settings
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings
from mlip.training.schedule import ScheduleSettings
from mlip.training.settings import TrainerSettings
from tests.support.sources import MadeUp

ELEMENTS = (1, 8)
E0 = {1: -13.6, 8: -2041.8}
CUTOFF = 4.0


class PairConfig(Settings):
    name: Literal["pair"] = "pair"
    elements: tuple[int, ...] = ELEMENTS
    cutoff: float = CUTOFF


class PairModel(nnx.Module):
    """Pair energies: a small network of radial functions, modulated by the elements."""

    def __init__(self, *, seed: int = 0, dtype=jnp.float32, width: int = 8) -> None:
        self.config = PairConfig()
        key = jax.random.key(seed)
        self.embedding = nnx.Param(jax.random.normal(key, (2, width), dtype))
        self.hidden = nnx.Param(jax.random.normal(jax.random.fold_in(key, 1), (6, width), dtype))
        self.readout = nnx.Param(
            0.1 * jax.random.normal(jax.random.fold_in(key, 2), (width,), dtype)
        )

    def __call__(self, graph, vectors):
        mask = graph.edge_mask
        one = jnp.ones((), vectors.dtype)
        r = jnp.sqrt(jnp.where(mask, jnp.sum(vectors**2, axis=-1), one))
        n = jnp.arange(1, 7, dtype=vectors.dtype)
        envelope = jnp.where(mask & (r < CUTOFF), (1 - (r / CUTOFF) ** 2) ** 3, 0 * one)
        basis = jnp.sin(n[None, None, :] * r[..., None] * (jnp.pi / CUTOFF)) * envelope[..., None]
        hidden = jnp.tanh(basis @ self.hidden[...])
        pair = self.embedding[...][graph.species]
        pair = pair[graph.receivers][:, None] * pair[graph.senders]
        energy = jnp.sum((hidden * pair * envelope[..., None]) @ self.readout[...], axis=1)
        return jax.ops.segment_sum(energy, graph.receivers, graph.num_nodes)

    def decay_mask(self):
        params = nnx.state(self, nnx.Param)
        return jax.tree_util.tree_map_with_path(lambda path, _: "hidden" in str(path), params)


@jax.custom_vjp
def _without_derivative(vectors):
    return vectors


def _refuse(*_):
    raise AssertionError("no derivative by the edge vectors was to be taken")


_without_derivative.defvjp(_refuse, _refuse)


class Undifferentiable(PairModel):
    """The same model, which fails where a derivative by the positions is taken."""

    def __call__(self, graph, vectors):
        return super().__call__(graph, _without_derivative(vectors))


def clusters(count: int, seed: int = 0, atoms: int = 6) -> list[Structure]:
    """Random clusters labelled with a Morse-like pair potential."""
    rng = np.random.default_rng(seed)
    structures = []
    for index in range(count):
        grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])[:atoms]
        positions = 1.6 * grid + rng.normal(scale=0.12, size=(atoms, 3))
        numbers = np.array([8, 1] * atoms)[:atoms].astype(np.int32)
        energy, forces = _morse(positions)
        energy += sum(E0[int(z)] for z in numbers)
        structures.append(
            Structure(
                numbers, positions, energy=energy, forces=forces, identifier=f"toy.xyz#{index}"
            )
        )
    return structures


def batches(structures: list[Structure], *, shuffle: bool, **options: Any) -> Batches:
    given = {"batch_size": 4, "dtype": "float32", "seed": 0, **options}
    return Batches(structures, cutoff=CUTOFF, elements=ELEMENTS, e0=E0, shuffle=shuffle, **given)


def fit_arguments(run_dir, **trainer: Any) -> dict[str, Any]:
    """Keyword arguments of `fit` for a run of a second or two."""
    return {
        "trainer": TrainerSettings(**(trainer or {"max_epochs": 3})),
        "loss": LossSettings(),
        "optimizer": OptimizerSettings(lr=0.01),
        "schedule": ScheduleSettings(),
        "run_dir": run_dir,
    }


def toy_run() -> tuple[PairModel, Batches, Batches]:
    """Model, training and validation batches."""
    train = batches(clusters(20), shuffle=True)
    valid = batches(clusters(6, seed=1), shuffle=False, shapes=train.shapes)
    return PairModel(), train, valid


def streamed_toy_run(workers: int) -> tuple[PairModel, StreamedBatches, Batches]:
    """Model, streamed training batches of two windows an epoch, and validation batches."""
    frames = Frames([Part(MadeUp(34), range(34))])
    sample = frames.sample(34).structures
    train = StreamedBatches(
        frames, sample, cutoff=CUTOFF, elements=ELEMENTS, e0=E0, batch_size=1, workers=workers
    )
    return PairModel(), train, batches(clusters(6, seed=1), shuffle=False)


def _morse(positions: np.ndarray) -> tuple[float, np.ndarray]:
    difference = positions[:, None] - positions[None, :]
    r = np.sqrt((difference**2).sum(-1) + np.eye(len(positions)))
    decay = np.exp(-1.5 * (r - 1.6))
    off = 1.0 - np.eye(len(positions))
    energy = 0.5 * float(np.sum(off * 0.3 * (decay**2 - 2 * decay)))
    slope = off * 0.3 * (-3.0 * decay**2 + 3.0 * decay)
    return energy, -np.einsum("ij,ijx->ix", slope / r, difference)
