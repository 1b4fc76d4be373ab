"""`Tally`: sums over any number of structures, from which statistics of all of them follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlip.data.e0 import E0Table, least_squares_origin
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure, is_isolated_atom

ELEMENTS = 119  # atomic numbers, 0 included
RANK_TOLERANCE = 1e-11  # of an eigenvalue relative to the largest; those of sums are squared


def _square() -> np.ndarray:
    return np.zeros((ELEMENTS, ELEMENTS))


def _vector() -> np.ndarray:
    return np.zeros(ELEMENTS)


@dataclass
class Tally:
    """Sums over structures; isolated atoms, which give E0, are left out.

    The energies enter as y = E/n, with the fractions x of the elements, so that E0 can be fitted
    over all structures: minimise Σ (y − x·E0)².

    Attributes:
        structures: their number.
        atoms: by atomic number.
        smallest: fewest atoms of a structure.
        largest: most atoms of a structure.
        energies: structures with an energy.
        forces: structures with forces.
        stresses: structures with a stress.
        fractions: Σ x.
        normal: Σ x xᵀ.
        right: Σ x y.
        energy_sums: Σ y and Σ y².
        force_components: number of force components.
        force_squares: Σ of their squares.
        largest_force: largest component.
        neighbors: Σ of the neighbours of atoms that have any, of some structures.
        receivers: number of those atoms.
    """

    structures: int = 0
    atoms: np.ndarray = field(default_factory=_vector)
    smallest: int = 0
    largest: int = 0
    energies: int = 0
    forces: int = 0
    stresses: int = 0
    fractions: np.ndarray = field(default_factory=_vector)
    normal: np.ndarray = field(default_factory=_square)
    right: np.ndarray = field(default_factory=_vector)
    energy_sums: np.ndarray = field(default_factory=lambda: np.zeros(2))
    force_components: int = 0
    force_squares: float = 0.0
    largest_force: float = 0.0
    neighbors: int = 0
    receivers: int = 0

    def add(self, structures: Sequence[Structure]) -> None:
        """Take some structures into the sums, without their neighbours."""
        structures = [s for s in structures if not is_isolated_atom(s)]
        if not structures:
            return
        sizes = np.array([len(s) for s in structures])
        counts = np.array([np.bincount(s.numbers, minlength=ELEMENTS) for s in structures])
        self.smallest = int(min(sizes.min(), self.smallest or sizes.min()))
        self.largest = int(max(sizes.max(), self.largest))
        self.structures += len(structures)
        self.atoms += counts.sum(axis=0)
        self.stresses += sum(s.stress is not None for s in structures)
        self._add_energies(structures, counts / sizes[:, None])
        for forces in (s.forces for s in structures if s.forces is not None):
            self.forces += 1
            self.force_components += forces.size
            self.force_squares += float(np.square(forces).sum())
            self.largest_force = max(self.largest_force, float(np.abs(forces).max()))

    def add_neighbors(self, structure: Structure, cutoff: float) -> None:
        """Take the neighbours of a structure within a cutoff (Å) into the sums.

        Raises:
            MlipError: if two atoms coincide.
        """
        if not is_isolated_atom(structure):
            receivers = neighbor_list(structure, cutoff).receivers
            self.neighbors += len(receivers)
            self.receivers += len(np.unique(receivers))

    def merge(self, other: Tally) -> None:
        """Take the sums of another one into these."""
        for name, value in vars(other).items():
            if name == "smallest":
                value = min(value or self.smallest, self.smallest or value)
            elif name in ("largest", "largest_force"):
                value = max(value, getattr(self, name))
            else:
                value = getattr(self, name) + value
            setattr(self, name, value)

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of the elements, sorted."""
        return np.flatnonzero(self.atoms).tolist()

    @property
    def avg_num_neighbors(self) -> float | None:
        """Mean number of neighbours of the atoms that have any; None if none were looked at."""
        return self.neighbors / self.receivers if self.receivers else None

    @property
    def force_rms(self) -> float | None:
        """Root mean square of the force components, eV/Å; None without forces."""
        if not self.force_components:
            return None
        return float(np.sqrt(self.force_squares / self.force_components))

    def fit_e0(self) -> E0Table | None:
        """E0 by least squares over all structures, the smallest if not unique; None without any.

        The same minimum as `dataset.e0=least_squares` finds (`mlip.data.e0`).
        """
        if not self.energies:
            return None
        present = np.flatnonzero(self.fractions)
        normal = self.normal[np.ix_(present, present)]
        solution, _, rank, _ = np.linalg.lstsq(normal, self.right[present], rcond=RANK_TOLERANCE)
        origin = least_squares_origin(f"{self.energies} structures", int(rank), len(present))
        values = dict(zip(present.tolist(), solution.tolist(), strict=True))
        mean, spread = self.energy_deviation(values) or (0.0, 0.0)
        return E0Table(values, origin, mean, spread)

    def energy_deviation(self, e0: Mapping[int, float]) -> tuple[float, float] | None:
        """Mean and standard deviation of (E − ΣE0)/n, eV/atom; None without energies.

        Args:
            e0: energies of the isolated atoms by atomic number, eV; zero for those not named.
        """
        if not self.energies:
            return None
        values = _vector()
        values[list(e0)] = list(e0.values())
        total, squares = self.energy_sums
        mean = float(total - self.fractions @ values) / self.energies
        residual = squares - 2 * values @ self.right + values @ self.normal @ values
        return mean, float(np.sqrt(max(residual / self.energies - mean**2, 0.0)))

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, without the elements that do not occur."""
        present = self.elements
        content: dict[str, Any] = {"elements": present}
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and name != "energy_sums":
                value = value[np.ix_(*[present] * value.ndim)]
            content[name] = value.tolist() if isinstance(value, np.ndarray) else value
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Tally:
        """The reverse of `to_json`."""
        tally, present = cls(), content["elements"]
        for name, value in vars(tally).items():
            stored = content[name]
            if name == "energy_sums":
                stored = np.array(stored, float)
            elif isinstance(value, np.ndarray):
                value[np.ix_(*[present] * value.ndim)] = np.array(stored, float)
                stored = value
            setattr(tally, name, stored)
        return tally

    def _add_energies(self, structures: Sequence[Structure], fractions: np.ndarray) -> None:
        labelled = [index for index, s in enumerate(structures) if s.energy is not None]
        y = np.array([structures[i].energy / len(structures[i]) for i in labelled])  # type: ignore[operator]
        x = fractions[labelled]
        self.energies += len(labelled)
        self.fractions += x.sum(axis=0)
        self.normal += x.T @ x
        self.right += x.T @ y
        self.energy_sums += (y.sum(), y @ y)
