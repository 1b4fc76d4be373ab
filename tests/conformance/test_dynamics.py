"""Dynamics with every model at constant energy, after a short training on real molecules."""

import io

import numpy as np
import pytest
from ase import Atoms
from rich.console import Console

from mlip.models import MODEL_CONFIGS
from mlip.potential import Potential
from mlip.simulation.md import MDSettings, run_md
from tests.conformance.configs import TINY
from tests.support.potentials import potential_of
from tests.support.quickstart import CUTOFF, molecules, train

STRUCTURES = 40  # from fewer a model learns nothing of atoms that come close
TRAINING_STEPS = 300
CHANGES = {  # wide enough that atoms do not collide, and quick to compile
    "tdn": {"channels": 16, "num_layers": 1},
    "nequip": {"channels": (16, 8)},
    "escn": {"num_layers": 1},
}
DYNAMICS = MDSettings(ensemble="nve", temperature=300.0, timestep=0.5, steps=500)
LARGEST_DRIFT = 1.0  # meV/atom/ps


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_energy_is_conserved(name, tmp_path):
    data = molecules(STRUCTURES)
    given = {"elements": data.elements, "cutoff": CUTOFF, **data.statistics._asdict()}
    fields = MODEL_CONFIGS[name].model_fields
    changes = {key: value for key, value in given.items() if key in fields}
    untrained = potential_of(TINY[name].model_copy(update=changes | CHANGES.get(name, {})))
    model, losses = train(untrained.model, TRAINING_STEPS, data)
    assert losses[-1] < 0.8 * losses[0]
    potential = Potential(model, elements=data.elements, e0=data.e0, precision="float64")
    start = data.structures[0]
    atoms = Atoms(start.numbers, start.positions)
    result = run_md(atoms, potential, DYNAMICS, tmp_path, console=Console(file=io.StringIO()))
    assert not np.allclose(result.atoms.positions, start.positions, atol=0.1)  # it did move
    assert abs(result.drift.slope) < LARGEST_DRIFT
    assert result.drift.fluctuation < LARGEST_DRIFT
