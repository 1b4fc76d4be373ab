"""The structures that every worker computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.io import read

MOVE = 0.01  # Å, how far atoms move between ASE steps


def training_frames(xyz: str, count: int) -> list[Atoms]:
    """The first labelled structures of a file."""
    return read(xyz, f":{count}", format="extxyz")


def moving(atoms: Atoms) -> Iterator[Atoms]:
    """The same atoms object again and again, displaced a little from where it started.

    The displacements are the same for every worker.
    """
    start = atoms.positions.copy()
    random = np.random.default_rng(0)
    while True:
        atoms.positions = start + random.normal(scale=MOVE, size=start.shape)
        yield atoms
