"""Worker: this project, through the training step of `mlip train` and its ASE calculator."""

from __future__ import annotations

import importlib.metadata
from itertools import count
from pathlib import Path

import jax
from frames import ase_step, bare, training_frames
from protocol import Setting, Step, serve, setting_from_arguments

import mlip
from mlip import runtime
from mlip.data.pipeline import Batches
from mlip.data.statistics import compute_statistics
from mlip.data.structure import Structure
from mlip.models.mace import MACE, MACEConfig
from mlip.potential import Potential
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel, initial_state
from mlip.training.step import Steps


class Work:
    """Model and batches of a setting.

    Args:
        setting: what is timed.
    """

    def __init__(self, setting: Setting) -> None:
        import jax.numpy as jnp
        from flax import nnx

        frames = training_frames(setting.xyz, setting.frames)
        structures = [
            Structure.from_atoms(atoms, f"{Path(setting.xyz).name}:{i}")
            for i, atoms in enumerate(frames)
        ]
        self.elements = tuple(sorted({int(z) for s in structures for z in s.numbers}))
        self.e0 = dict.fromkeys(self.elements, frames[0].get_potential_energy() / len(frames[0]))
        self.batches = Batches(
            structures,
            cutoff=setting.cutoff,
            elements=self.elements,
            e0=self.e0,
            batch_size=setting.batch_size,
            dtype="float32",
            seed=0,
            shuffle=True,
        )
        statistics = compute_statistics(structures, self.batches.neighbors, self.e0)
        config = MACEConfig(
            elements=self.elements,
            cutoff=setting.cutoff,
            channels=setting.channels,
            hidden_lmax=setting.hidden_lmax,
            lmax=setting.lmax,
            correlation=setting.correlation,
            num_layers=setting.layers,
            num_bessel=setting.num_bessel,
            avg_num_neighbors=statistics.avg_num_neighbors,
            scale=statistics.scale,
            shift=statistics.shift,
        )
        self.model = MACE(config, rngs=nnx.Rngs(0), dtype=jnp.float32)
        self.first = frames[0]


def training_step(work: Work) -> Step:
    """Loss, gradient, optimiser and weight average on one batch after the other."""
    split = SplitModel(work.model)
    optimizer = build_optimizer(OptimizerSettings(), split.decay_mask(work.model))
    settings = LossSettings(energy_weight=1.0, forces_weight=100.0, stress_weight=0.0)
    steps = Steps(split, optimizer, settings, 0.99, lambda *_: None, lambda *_: None)
    state = initial_state(split.params, optimizer)
    weights = settings.weights._replace(stress=None)
    stored = [batch for epoch in range(4) for batch in work.batches.epoch(epoch)]
    batches = (stored[i % len(stored)] for i in count())

    def step() -> None:
        nonlocal state
        batch = next(batches)
        state, _ = steps.train(state, batch.graph, batch.labels, 1e-4, weights)
        jax.block_until_ready(state.params)

    return step


def calculator_step(work: Work) -> Step:
    """Energy and forces of moving atoms through the calculator."""
    potential = Potential(work.model, elements=work.elements, e0=work.e0, precision="float32")
    atoms = bare(work.first)
    atoms.calc = potential.calculator()
    return ase_step(atoms)


def main() -> None:
    setting = setting_from_arguments()
    runtime.prepare("float32")
    work = Work(setting)
    potential = Potential(work.model, elements=work.elements, e0=work.e0, precision="float32")
    describe = {
        "versions": {"jax-mlip": mlip.__version__, "jax": importlib.metadata.version("jax")},
        "num_parameters": potential.num_parameters,
        "threads": runtime.num_threads(),
        "padding_share": work.batches.padding_share,
    }
    serve(describe, {"train": training_step(work), "ase": calculator_step(work)})


if __name__ == "__main__":
    main()
