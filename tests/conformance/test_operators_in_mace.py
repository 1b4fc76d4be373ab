"""Every tensor product in MACE, by config alone: it trains, and forces are minus the gradient."""

import numpy as np
import pytest

from mlip.models.mace import MACEConfig
from mlip.tensor_products.registry import OPERATORS
from tests.support.potentials import moved, outputs, potential_of
from tests.support.quickstart import CUTOFF, molecules, train
from tests.tolerances import tolerance

STEPS = 30


def config_with(operator):
    """The operator in both places if it can take both, else beside the default."""
    statistics = molecules().statistics
    chosen = {role: {"name": operator.name} for role in operator.roles}
    return MACEConfig(
        elements=molecules().elements,
        cutoff=CUTOFF,
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
    potential = potential_of(config_with(OPERATORS[name]), seed=1)
    check_forces(potential, molecules().structures[0])
    _, losses = train(potential.model, STEPS)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]


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
