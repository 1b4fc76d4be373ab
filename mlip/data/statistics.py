"""Statistics of the training data that set a model's normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlip.data.e0 import interaction_energies
from mlip.data.structure import Structure

if TYPE_CHECKING:
    from mlip.data.neighbors import NeighborList


class Statistics(NamedTuple):
    """What a model's normalisation needs.

    Attributes:
        avg_num_neighbors: mean number of neighbours of the atoms that have any.
        scale: root mean square of the force components, eV/Å; without forces the spread of the
            interaction energies, eV/atom; 1 without either.
        shift: mean interaction energy (E − ΣE0)/n, eV/atom; 0 without energies.
        avg_num_atoms: mean number of atoms of the structures.
    """

    avg_num_neighbors: float
    scale: float
    shift: float
    avg_num_atoms: float


def compute_statistics(
    structures: Sequence[Structure],
    neighbors: Sequence[NeighborList],
    e0: Mapping[int, float],
    *,
    mask_fixed: bool = False,
) -> Statistics:
    """Statistics as MACE's scale-shift model uses them.

    Args:
        structures: training structures.
        neighbors: their neighbour lists.
        e0: isolated-atom energy by atomic number, eV.
        mask_fixed: leave out the forces of atoms that a constraint holds in place.

    Source: Batatia et al., NeurIPS 2022, arXiv:2206.07697.
    """
    edges = sum(len(pairs.receivers) for pairs in neighbors)
    atoms = sum(len(np.unique(pairs.receivers)) for pairs in neighbors)
    energies = interaction_energies(structures, e0)
    forces = [
        s.forces[~s.fixed] if mask_fixed and s.fixed is not None else s.forces
        for s in structures
        if s.forces is not None
    ]
    if sum(map(len, forces)):
        scale = float(np.sqrt(np.mean(np.square(np.concatenate(forces)))))
    else:
        scale = float(np.std(energies)) if len(energies) else 0.0
    return Statistics(
        avg_num_neighbors=edges / atoms if atoms else 1.0,
        scale=scale if scale > 0 else 1.0,
        shift=float(np.mean(energies)) if len(energies) else 0.0,
        avg_num_atoms=float(np.mean([len(s) for s in structures])),
    )
