"""Worker: InstaDeep's mlip, through its own training step and ASE calculator."""

from __future__ import annotations

import importlib.metadata
import os
from itertools import cycle

import jax
from ase import Atoms
from frames import ase_step, bare, training_frames
from mlip.models.loss import MSELoss
from mlip.simulation.ase.mlip_ase_calculator import MLIPForceFieldASECalculator
from mlip.training.training_state import init_training_state
from mlip.training.training_step import make_train_step
from protocol import Setting, Step, serve, setting_from_arguments

from mlip.data import ExtxyzReader, GraphDatasetBuilder
from mlip.models import ForceField, Mace
from mlip.training import get_default_mlip_optimizer
from mlip.training.ema import exponentially_moving_average


def make_data(setting: Setting) -> GraphDatasetBuilder:
    """The data set in memory, batched."""
    builder = GraphDatasetBuilder(
        {"train": ExtxyzReader(setting.xyz, num_to_load=setting.frames)},
        GraphDatasetBuilder.Config(
            graph_cutoff_angstrom=setting.cutoff, batch_size=setting.batch_size
        ),
    )
    builder.get_datasets()
    return builder


def make_model(setting: Setting, builder: GraphDatasetBuilder) -> ForceField:
    """A MACE force field with random weights."""
    config = Mace.Config(
        num_layers=setting.layers,
        num_channels=setting.channels,
        l_max=setting.lmax,
        node_symmetry=setting.hidden_lmax,
        correlation=setting.correlation,
        num_rbf=setting.num_bessel,
    )
    return ForceField.from_mlip_network(Mace(config, builder.dataset_info))


def training_step(force_field: ForceField, builder: GraphDatasetBuilder) -> Step:
    """Loss, gradient, optimiser and weight average on one batch after the other."""
    dataset = builder.datasets["train"]
    average = exponentially_moving_average(0.99)
    optimizer = get_default_mlip_optimizer()
    loss = MSELoss(lambda _: 1.0, lambda _: 100.0, lambda _: 0.0)
    graphs = dataset.number_of_graphs() / len(dataset)
    program = make_train_step(force_field.predictor, loss, optimizer, average, graphs)
    state = init_training_state(force_field.params, optimizer, average)
    batches = cycle(list(dataset))

    def step() -> None:
        nonlocal state
        state, _ = program(state, next(batches), 1)
        jax.block_until_ready(state.params)

    return step


def calculator_step(force_field: ForceField, atoms: Atoms) -> Step:
    """Energy and forces of moving atoms through the calculator."""
    atoms = bare(atoms)
    atoms.calc = MLIPForceFieldASECalculator(
        atoms, edge_capacity_multiplier=1.25, force_field=force_field
    )
    return ase_step(atoms)


def main() -> None:
    setting = setting_from_arguments()
    builder = make_data(setting)
    force_field = make_model(setting, builder)
    names = ("mlip", "jax", "e3nn-jax")
    describe = {
        "versions": {name: importlib.metadata.version(name) for name in names},
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(force_field.params)),
        "threads": len(os.sched_getaffinity(0)),
    }
    steps = {
        "train": training_step(force_field, builder),
        "ase": calculator_step(force_field, training_frames(setting.xyz, 1)[0]),
    }
    serve(describe, steps)


if __name__ == "__main__":
    main()
