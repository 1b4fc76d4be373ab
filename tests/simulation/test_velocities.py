"""Initial velocities: the temperature asked for, at rest as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from mlip.simulation.velocities import degrees_of_freedom, draw_momenta, temperature_of

CASES = {
    "molecule": (molecule("CH3CH2OH"), 9 * 3 - 6),
    "linear": (molecule("CO2"), 3 * 3 - 5),
    "crystal": (bulk("Cu", cubic=True), 4 * 3 - 3),
    "atom": (Atoms("Ar"), 3),
}


@pytest.mark.parametrize("name", CASES)
def test_temperature_and_rest(name):
    atoms, degrees = CASES[name]
    atoms = atoms.copy()
    draw_momenta(atoms, 300.0, np.random.default_rng(0))
    assert degrees_of_freedom(atoms, at_rest=True) == degrees
    assert temperature_of(atoms, degrees) == pytest.approx(300.0)
    if len(atoms) > 1:
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-12
    if name in ("molecule", "linear"):
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-12


def test_fixed_atoms_get_none():
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 1]))
    draw_momenta(atoms, 300.0, np.random.default_rng(0))
    assert not atoms.get_momenta()[:2].any()
    assert degrees_of_freedom(atoms, at_rest=True) == 7 * 3
    assert temperature_of(atoms, 7 * 3) == pytest.approx(300.0)


def test_speeds_follow_the_masses():
    atoms = Atoms(["H", "Xe"] * 3000, np.zeros((6000, 3)), cell=[9, 9, 9], pbc=True)
    draw_momenta(atoms, 300.0, np.random.default_rng(0))
    light, heavy = ((atoms.get_velocities()[k::2] ** 2).mean() for k in (0, 1))
    assert light / heavy == pytest.approx(131.293 / 1.008, rel=0.05)


def test_the_seed_decides():
    first, second, third = molecule("H2O"), molecule("H2O"), molecule("H2O")
    for atoms, seed in ((first, 1), (second, 1), (third, 2)):
        draw_momenta(atoms, 300.0, np.random.default_rng(seed))
    np.testing.assert_array_equal(first.get_momenta(), second.get_momenta())
    assert np.abs(first.get_momenta() - third.get_momenta()).max() > 0.01
