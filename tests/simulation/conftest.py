"""Argon as Lennard-Jones made it: potentials and structures shared by the simulation tests."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from rich.console import Console

from mlip.data.collate import BatchShape
from mlip.potential import Potential
from mlip.simulation.calculator import MLIPCalculator
from tests.support.toy import LennardJonesConfig, lennard_jones_potential

# Padded shapes of the crystal and the cluster below, given so that the tests share compilations.
SHAPES = (BatchShape(1, 32, 40, 32), BatchShape(1, 32, 64, 8))


@pytest.fixture(scope="session")
def argon() -> Potential:
    """Smooth Lennard-Jones argon in float64, E0 = −1.5 eV."""
    return lennard_jones_potential(LennardJonesConfig(), e0={18: -1.5})


@pytest.fixture
def calculator(argon: Potential) -> MLIPCalculator:
    """Argon's calculator, with the padded shapes of the structures below."""
    return MLIPCalculator(argon, shapes=SHAPES)


@pytest.fixture
def crystal() -> Atoms:
    """32 rattled atoms in a strained, sheared box smaller than twice the cutoff."""
    atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(1)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True
    )
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def cluster(crystal: Atoms) -> Atoms:
    """The same number of atoms without periodicity or cell."""
    return Atoms(crystal.numbers, crystal.positions)


@pytest.fixture
def console() -> Console:
    """A console that is not a terminal; its text is `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)
