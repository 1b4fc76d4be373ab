"""A neighbour list that survives several steps (Verlet list), on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlip.data.neighbors import SHORTEST_EDGE, NeighborList, neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError


class Pairs(NamedTuple):
    """The pairs of one configuration.

    Attributes:
        neighbors: every pair closer than the cutoff, and no other.
        shortest: the shortest pair distance, Å; infinite without pairs.
    """

    neighbors: NeighborList
    shortest: float


class _Reference(NamedTuple):
    """The configuration a candidate list was built for."""

    positions: np.ndarray
    pbc: np.ndarray
    cell: np.ndarray
    inverse_cell: np.ndarray
    candidates: NeighborList


class VerletList:
    """Pairs within a cutoff, from candidates within `cutoff + skin` kept as long as they suffice.

    Let F be the linear map from the reference cell to the present one and u_i the displacement of
    atom i from its reference position carried along by F, less the mean of all atoms. A pair that
    is not among the candidates was at least `cutoff + skin` apart, so it is now at least
    `(cutoff + skin) σ_min(F) − 2 max|u|` apart. The candidates are searched anew as soon as this
    bound falls below the cutoff, or when the atom count or the periodicity changes. With a
    constant cell this is the usual rule: no atom moved by more than half the skin. When an atom
    is wrapped back into the cell, its pairs' shifts are corrected. So the result depends on the
    structure alone, not on what the list saw before.

    Candidates beyond the cutoff are not handed out, although they would contribute nothing:
    looking at their distances takes the host less time than they would take the model.

    Args:
        cutoff: Å.
        skin: Å, zero or more.

    Attributes:
        searches: how many times the candidates were searched.

    Raises:
        MlipError: for a skin that is negative or not finite.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        if not 0.0 <= skin < np.inf:
            raise MlipError(
                f"skin={skin}: expected zero or more, by how many Å farther than the cutoff "
                "neighbours are searched."
            )
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.searches = 0
        self._reference: _Reference | None = None

    def update(self, structure: Structure) -> Pairs:
        """The pairs of `structure`, the same and in the same order as after a fresh search.

        Raises:
            MlipError: if two atoms coincide or the cell has no volume along a periodic axis.
        """
        cell = _full_cell(structure)
        images = self._images(structure, cell)
        if images is None or self._reference is None:
            self._reference = _search(structure, cell, self.cutoff + self.skin)
            self.searches += 1
            images = np.zeros((len(structure), 3))
        return self._within_cutoff(self._reference, structure, cell, images)

    def _images(self, structure: Structure, cell: np.ndarray) -> np.ndarray | None:
        """By how many lattice vectors each atom was wrapped; None if a search is due."""
        reference = self._reference
        if (
            reference is None
            or len(reference.positions) != len(structure)
            or not np.array_equal(reference.pbc, structure.pbc)
        ):
            return None
        expected, shrink = reference.positions, 1.0
        if not np.array_equal(reference.cell, cell):
            strain = reference.inverse_cell @ cell
            shrink = float(np.linalg.svd(strain, compute_uv=False)[-1])
            expected = expected @ strain
        slack = (self.cutoff + self.skin) * shrink - self.cutoff
        if slack < 0.0:
            return None
        moved = structure.positions - expected
        images = np.zeros_like(moved)
        if structure.pbc.any():
            images = np.rint(moved @ np.linalg.inv(cell)) * structure.pbc
            moved -= images @ cell
        moved -= moved.mean(axis=0)
        if 4.0 * np.einsum("ij,ij->i", moved, moved).max() > slack**2:
            return None
        return images

    def _within_cutoff(
        self, reference: _Reference, structure: Structure, cell: np.ndarray, images: np.ndarray
    ) -> Pairs:
        receivers, senders, shifts = reference.candidates
        if images.any():
            wraps = images.astype(shifts.dtype)
            shifts = shifts + wraps.take(receivers, axis=0) - wraps.take(senders, axis=0)
        positions = structure.positions
        vectors = positions.take(senders, axis=0) - positions.take(receivers, axis=0)
        if structure.pbc.any():
            vectors += shifts @ cell
        squares = np.einsum("ij,ij->i", vectors, vectors)
        shortest = float(np.sqrt(squares.min())) if len(squares) else np.inf
        if shortest < SHORTEST_EDGE:
            worst = int(np.argmin(squares))
            raise MlipError(
                f"{structure.identifier}: atoms {receivers[worst]} and {senders[worst]} are "
                f"{shortest:.1e} Å apart; remove one of them."
            )
        (keep,) = np.nonzero(squares < self.cutoff**2)
        pairs = NeighborList(*(part.take(keep, axis=0) for part in (receivers, senders, shifts)))
        return Pairs(pairs, shortest)


def _search(structure: Structure, cell: np.ndarray, radius: float) -> _Reference:
    found = _in_full_order(neighbor_list(structure, radius))
    return _Reference(
        positions=structure.positions.copy(),
        pbc=structure.pbc.copy(),
        cell=cell.copy(),
        inverse_cell=np.linalg.inv(cell),
        # numpy gathers three times faster with indices of its own integer type
        candidates=NeighborList(*(part.astype(np.intp) for part in found)),
    )


def _in_full_order(pairs: NeighborList) -> NeighborList:
    """Sort the images of the same pair too, so that results do not depend on past searches."""
    receivers, senders, shifts = pairs
    same = (receivers[1:] == receivers[:-1]) & (senders[1:] == senders[:-1])
    if not same.any():
        return pairs
    order = np.lexsort((*shifts.T, senders, receivers))
    return NeighborList(receivers[order], senders[order], shifts[order])


def _full_cell(structure: Structure) -> np.ndarray:
    """The cell with orthogonal unit vectors for missing vectors of non-periodic axes."""
    if not structure.pbc.any():
        return np.eye(3)
    missing = ~structure.cell.any(axis=1) & ~structure.pbc
    if not missing.any():
        return structure.cell
    from ase.geometry.cell import complete_cell

    cell = structure.cell.copy()
    cell[missing] = complete_cell(structure.cell)[missing]
    return cell
