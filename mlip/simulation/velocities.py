"""Initial velocities and the degrees of freedom that carry temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import units

if TYPE_CHECKING:
    from ase import Atoms


def draw_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Set Maxwell–Boltzmann momenta, at rest as a whole, of exactly the temperature asked for.

    Without constraints the motion of the centre of mass is removed and, without periodicity,
    the rotation too. The temperature counts the remaining degrees of freedom.

    Args:
        atoms: changed in place.
        temperature: K.
        rng: source of the draw.
    """
    masses = atoms.get_masses()[:, None]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature)
    if _is_free(atoms):
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
        if not atoms.pbc.any():
            momenta -= _rigid_rotation(atoms, momenta)
    atoms.set_momenta(momenta)
    present = temperature_of(atoms, degrees_of_freedom(atoms, at_rest=True))
    if present > 0.0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / present))


def degrees_of_freedom(atoms: Atoms, *, at_rest: bool) -> int:
    """Coordinates free to move; overall translation and rotation do not count if `at_rest`."""
    free = atoms.get_number_of_degrees_of_freedom()
    if at_rest and _is_free(atoms):
        free -= 3
        if not atoms.pbc.any():
            free -= int(np.linalg.matrix_rank(_inertia(atoms), tol=1e-6))
    return max(int(free), 1)


def temperature_of(atoms: Atoms, degrees: int) -> float:
    """2 E_kin / (degrees k_B), K."""
    return float(2.0 * atoms.get_kinetic_energy() / (degrees * units.kB))


def _is_free(atoms: Atoms) -> bool:
    return len(atoms) > 1 and not atoms.constraints


def _arms(atoms: Atoms) -> np.ndarray:
    return atoms.positions - atoms.get_center_of_mass()


def _inertia(atoms: Atoms) -> np.ndarray:
    arms = _arms(atoms)
    squares = np.einsum("n,ni,nj->ij", atoms.get_masses(), arms, arms)
    return np.trace(squares) * np.eye(3) - squares


def _rigid_rotation(atoms: Atoms, momenta: np.ndarray) -> np.ndarray:
    """Momenta of the rigid rotation with the same angular momentum; linear molecules too."""
    arms = _arms(atoms)
    angular = np.cross(arms, momenta).sum(axis=0)
    omega = np.linalg.pinv(_inertia(atoms), rtol=1e-9) @ angular
    return atoms.get_masses()[:, None] * np.cross(omega, arms)
