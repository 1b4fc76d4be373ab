"""`Structure`: one labelled atomic structure on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms

ISOLATED_ATOM = "IsolatedAtom"  # the `config_type` of frames that give E0


@dataclass(frozen=True, eq=False)
class Structure:
    """One atomic structure with the labels it has; a missing label is `None`, never zero.

    Args:
        numbers: atomic numbers, shape (n,).
        positions: Å, shape (n, 3), float64.
        cell: lattice vectors as rows, Å, shape (3, 3); zeros for a molecule.
        pbc: periodicity along each lattice vector, shape (3,).
        energy: total energy, eV.
        forces: eV/Å, shape (n, 3).
        stress: eV/Å³, shape (3, 3), symmetric, tensile positive.
        charge: total charge, e.
        spin: number of unpaired electrons.
        fixed: atoms held in place by a constraint, shape (n,).
        weight: weight of the whole structure in the loss.
        identifier: where it comes from, for messages: `train.xyz#12`.
        group: `config_type` of the frame, or the empty string.
        tags: of catalysis data, shape (n,): 0 below the surface, 1 surface, 2 adsorbate.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    charge: float = 0.0
    spin: float = 0.0
    fixed: np.ndarray | None = None
    weight: float = 1.0
    identifier: str = "structure"
    group: str = ""
    tags: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.numbers) == 0:
            raise MlipError(f"{self.identifier}: no atoms; remove this frame.")
        if self.positions.shape != (len(self.numbers), 3):
            raise MlipError(
                f"{self.identifier}: positions have shape {self.positions.shape}, expected "
                f"({len(self.numbers)}, 3) for {len(self.numbers)} atoms."
            )
        if not np.isfinite(self.positions).all():
            raise MlipError(f"{self.identifier}: a position is not finite; remove this frame.")
        if not np.isfinite(self.cell).all():
            raise MlipError(f"{self.identifier}: the cell is not finite; remove this frame.")
        if self.pbc.all() and abs(np.linalg.det(self.cell)) < 1e-9:
            raise MlipError(
                f"{self.identifier}: pbc is true but the cell has zero volume; "
                "give a cell or set pbc to false."
            )

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def from_atoms(cls, atoms: Atoms, identifier: str = "structure") -> Structure:
        """An unlabelled structure from ASE atoms (labels are read by `mlip.data.sources`).

        The box of a structure without periodicity is dropped, so that it has no volume. `charge`
        and `spin` are read from `atoms.info`.

        Raises:
            MlipError: if one of them is not a number, or see the class.
        """
        periodic = bool(np.any(atoms.pbc))
        return cls(
            numbers=np.asarray(atoms.numbers, dtype=np.int32),
            positions=np.asarray(atoms.positions, dtype=np.float64),
            cell=np.asarray(atoms.cell.array, dtype=np.float64) if periodic else np.zeros((3, 3)),
            pbc=np.asarray(atoms.pbc, dtype=bool),
            charge=_number(atoms, "charge", identifier),
            spin=_number(atoms, "spin", identifier),
            identifier=identifier,
        )


def is_isolated_atom(structure: Structure) -> bool:
    """Whether this is a single atom that gives E0, as its `config_type` says."""
    return len(structure) == 1 and structure.group == ISOLATED_ATOM


def _number(atoms: Atoms, name: str, identifier: str) -> float:
    """A number of `atoms.info`, 0 if it is not there."""
    value = atoms.info.get(name, 0.0)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise MlipError(
            f"{identifier}: {name}={str(value)[:40]!r} is not a finite number; write one in the "
            "frame's comment line (atoms.info), or remove it."
        )
    return number


def passing(
    structures: Sequence[Structure], check: Callable[[Structure], object]
) -> tuple[list[int], list[tuple[Structure, MlipError]]]:
    """The indices of the structures that a check lets pass, and the others with its errors."""
    kept: list[int] = []
    refused: list[tuple[Structure, MlipError]] = []
    for index, structure in enumerate(structures):
        try:
            check(structure)
            kept.append(index)
        except MlipError as error:
            refused.append((structure, error))
    return kept, refused
