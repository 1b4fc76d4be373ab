"""Timing training steps and ASE steps of a model, warmed up and blocked until done."""

from __future__ import annotations

import resource
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from mlip.benchmark.timing import Times, quartiles
from mlip.data.structure import Structure
from mlip.potential import Potential
from mlip.training.interfaces import BatchSource
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel, initial_state
from mlip.training.step import Compilation, Steps

WARM_UP = 5  # steps before the first that counts
EMA_DECAY = 0.99
LEARNING_RATE = 1e-4  # small: the weights shall stay in a sound region while steps are timed
MOVE = 0.01  # Å, how far atoms move between ASE steps


class Timing(NamedTuple):
    """Result of timing one kind of step.

    Attributes:
        step: its times.
        compile_s: tracing and compiling, all shapes.
        num_compilations: programs compiled.
        atoms_per_s: real atoms per second.
    """

    step: Times
    compile_s: float
    num_compilations: int
    atoms_per_s: float


def time_training_steps(
    model: nnx.Module,
    batches: BatchSource,
    optimizer: OptimizerSettings,
    loss: LossSettings,
    steps: int,
) -> Timing:
    """Time full training steps: loss, gradient, optimiser, weight average.

    Args:
        model: with initial weights; not changed.
        batches: training data; a step that compiles a new shape is not counted.
        optimizer: the optimiser.
        loss: the loss; a weight of zero leaves the term out.
        steps: number of timed steps.
    """
    split = SplitModel(model)
    transform = build_optimizer(optimizer, split.decay_mask(model))
    compilations: list[Compilation] = []
    program = Steps(
        split, transform, loss, EMA_DECAY, lambda function, shape: None, compilations.append
    )
    state = initial_state(split.params, transform)
    weights = loss.weights._replace(**{k: None for k, v in loss.weights._asdict().items() if not v})
    seconds, atoms = [], []
    for number, (batch, _) in enumerate(batches.stream(0)):
        compiled = len(compilations)
        start = time.perf_counter()
        state, _ = program.train(state, batch.graph, batch.labels, LEARNING_RATE, weights)
        jax.block_until_ready(state)
        elapsed = time.perf_counter() - start
        if number < WARM_UP or len(compilations) > compiled:
            continue
        seconds.append(elapsed)
        atoms.append(int(np.sum(batch.graph.node_mask)))
        if len(seconds) == steps:
            break
    return Timing(
        quartiles(seconds),
        sum(compilation.seconds for compilation in compilations),
        len(compilations),
        float(np.mean(atoms) / np.median(seconds)),
    )


def time_ase_steps(potential: Potential, structure: Structure, steps: int) -> Timing:
    """Time energy and forces of one structure through ASE, its atoms moving between the steps.

    Args:
        potential: the potential.
        structure: the structure.
        steps: number of timed steps.
    """
    from ase import Atoms

    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    atoms.calc = calculator = potential.calculator()
    random = np.random.default_rng(0)
    seconds = []
    for number in range(WARM_UP + steps):
        atoms.positions = structure.positions + random.normal(scale=MOVE, size=(len(atoms), 3))
        start = time.perf_counter()
        atoms.get_potential_energy()
        atoms.get_forces()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    return Timing(
        quartiles(seconds),
        sum(compilation.seconds for compilation in calculator.compilations),
        len(calculator.compilations),
        float(len(atoms) / np.median(seconds)),
    )


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
