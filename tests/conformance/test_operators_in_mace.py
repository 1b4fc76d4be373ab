"""Every tensor product in MACE, by config alone: it trains, and forces are minus the gradient."""

from functools import cache

import numpy as np
import pytest

from mlip.data.dataset import load_dataset
from mlip.data.pipeline import Batches
from mlip.data.statistics import compute_statistics
from mlip.models.mace import MACEConfig
from mlip.tensor_products.registry import OPERATORS
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel, initial_state
from mlip.training.step import Steps
from tests.support.potentials import moved, outputs, potential_of
from tests.tolerances import tolerance

STEPS = 30
STRUCTURES = 4
LEARNING_RATE = 0.03


@cache
def quickstart():
    from mlip.cli.compose import compose
    from mlip.cli.schema import SCHEMAS
    from mlip.cli.validate import validate

    settings = validate(SCHEMAS["train"], compose("train", ["dataset=quickstart"])).dataset
    dataset = load_dataset(settings)
    structures = dataset.train[:STRUCTURES]
    batches = Batches(
        structures,
        cutoff=3.0,
        elements=dataset.elements,
        e0=dataset.e0.values,
        batch_size=STRUCTURES,
        dtype="float64",
        seed=0,
    )
    statistics = compute_statistics(structures, batches.neighbors, dataset.e0.values)
    return structures, dataset.elements, batches, statistics


def config_with(operator):
    """The operator in both places if it can take both, else beside the default."""
    _, elements, _, statistics = quickstart()
    chosen = {role: {"name": operator.name} for role in operator.roles}
    return MACEConfig(
        elements=elements,
        cutoff=3.0,
        channels=4,
        hidden_lmax=1,
        lmax=2,
        correlation=3,
        num_bessel=4,
        radial_mlp=(8,),
        readout_mlp=4,
        avg_num_neighbors=statistics.avg_num_neighbors,
        scale=statistics.scale,
        shift=statistics.shift,
        **chosen,
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_trains_on_real_molecules(name):
    structures, _, batches, _ = quickstart()
    potential = potential_of(config_with(OPERATORS[name]), seed=1)
    check_forces(potential, structures[0])
    losses = train(potential.model, batches)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]


def train(model, batches):
    split = SplitModel(model)
    transform = build_optimizer(OptimizerSettings(clip_norm=10.0), split.decay_mask(model))
    loss = LossSettings()
    program = Steps(split, transform, loss, 0.9, lambda function, shape: None, lambda done: None)
    state = initial_state(split.params, transform)
    losses = []
    for _ in range(STEPS):
        (batch,) = batches.epoch(0)
        state, metrics = program.train(
            state, batch.graph, batch.labels, LEARNING_RATE, loss.weights._replace(stress=None)
        )
        losses.append(float(metrics.loss))
    return losses


def check_forces(potential, structure):
    step = 1e-4
    directions = np.random.default_rng(0).normal(size=(3, len(structure), 3))
    displaced = [
        moved(structure, structure.positions + sign * step * direction)
        for direction in directions
        for sign in (1, -1)
    ]
    plain, *others = outputs(potential, [structure, *displaced])
    energies = np.array([float(other.energy) for other in others]).reshape(-1, 2)
    expected = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    actual = np.einsum("dax,ax->d", directions, plain.forces)
    atol = tolerance("float64").finite_difference * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)
