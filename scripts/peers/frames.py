"""The structures that every worker computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.io import read

MOVE = 0.01  # Å, how far atoms move between ASE steps


def training_frames(xyz: str, count: int) -> list[Atoms]:
    """The first labelled structures of a file."""
    return read(xyz, f":{count}", format="extxyz")


def bare(atoms: Atoms) -> Atoms:
    """The same atoms without labels, ready for a calculator."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def ase_step(atoms: Atoms) -> Callable[[], None]:
    """Energy and forces through the calculator of `atoms`, which move a little between steps.

    The displacements are the same for every worker.
    """
    start = atoms.positions.copy()
    random = np.random.default_rng(0)

    def step() -> None:
        atoms.positions = start + random.normal(scale=MOVE, size=start.shape)
        atoms.get_potential_energy()
        atoms.get_forces()

    return step
