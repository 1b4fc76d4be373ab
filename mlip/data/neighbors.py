"""Neighbour lists on the host, by vesin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import vesin

from mlip.data.structure import Structure, passing
from mlip.errors import MlipError

NEAR = 1.0  # Å, a cutoff at which a search costs little
SHORTEST_EDGE = 1e-3  # Å; anything closer is two atoms on one spot


class NeighborList(NamedTuple):
    """All ordered pairs within a cutoff, sorted by receiver.

    `r_ij = x[senders] + shifts @ cell − x[receivers]`.

    Attributes:
        receivers: int32, shape (e,).
        senders: int32, shape (e,).
        shifts: int32, shape (e, 3).
    """

    receivers: np.ndarray
    senders: np.ndarray
    shifts: np.ndarray


def neighbor_list(structure: Structure, cutoff: float) -> NeighborList:
    """All pairs closer than `cutoff`, periodic images included.

    Args:
        structure: any periodicity; cells smaller than the cutoff are handled.
        cutoff: Å.

    Raises:
        MlipError: if two atoms coincide.
    """
    box = _complete_cell(structure)
    search = vesin.NeighborList(cutoff=float(cutoff), full_list=True)
    receivers, senders, shifts, distances = search.compute(
        points=structure.positions, box=box, periodic=structure.pbc.tolist(), quantities="ijSd"
    )
    if len(distances) and distances.min() < SHORTEST_EDGE:
        worst = int(np.argmin(distances))
        raise MlipError(
            f"{structure.identifier}: atoms {receivers[worst]} and {senders[worst]} are "
            f"{distances[worst]:.1e} Å apart; remove the duplicate atom or this frame."
        )
    order = np.lexsort((senders, receivers))
    return NeighborList(
        receivers[order].astype(np.int32),
        senders[order].astype(np.int32),
        shifts[order].astype(np.int32),
    )


def without_collisions(structures: Sequence[Structure]) -> tuple[list[int], list[str]]:
    """Which structures have no two atoms on one spot, and what is wrong with the others.

    Returns:
        Their indices, and a sentence for each of the others.
    """
    kept, refused = passing(structures, lambda structure: neighbor_list(structure, NEAR))
    return kept, [str(error) for _, error in refused]


def _complete_cell(structure: Structure) -> np.ndarray:
    """The cell with unit vectors in place of missing lattice vectors along non-periodic axes."""
    if not structure.pbc.any():
        return np.zeros((3, 3))
    lengths = np.linalg.norm(structure.cell, axis=1)
    for axis in range(3):
        if structure.pbc[axis] and lengths[axis] < 1e-9:
            raise MlipError(
                f"{structure.identifier}: pbc is true along lattice vector {axis}, which has "
                "zero length; give the vector or set pbc to false along it."
            )
    if np.all(lengths > 1e-9):
        if abs(np.linalg.det(structure.cell)) < 1e-9:
            raise MlipError(f"{structure.identifier}: the cell has zero volume although pbc is on.")
        return structure.cell
    from ase.geometry.cell import complete_cell

    return complete_cell(structure.cell)
