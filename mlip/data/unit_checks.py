"""Are energies and forces in eV and eV/Å? Answers from what holds for all matter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import units

from mlip.data.findings import Findings
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError

# Total energies of atoms in Hartree (Hartree–Fock limit, rounded): all-electron codes give
# nearly these, so energies that sum up to them in another unit have not been converted to eV.
ATOMS_IN_HARTREE = {
    1: -0.50, 2: -2.86, 3: -7.43, 4: -14.57, 5: -24.53, 6: -37.69, 7: -54.40, 8: -74.81,
    9: -99.41, 10: -128.55, 11: -161.86, 12: -199.61, 13: -241.88, 14: -288.85, 15: -340.72,
    16: -397.50, 17: -459.48, 18: -526.82,
}  # fmt: skip
TOTAL_TOLERANCE = 0.04  # binding energy relative to the total, at most (methane: 2 %)
ENERGY_UNITS = {
    "Hartree": units.Hartree,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}  # eV
FORCE_UNITS = {
    "kcal/mol/Å": units.kcal / units.mol,
    "kJ/mol/Å": units.kJ / units.mol,
    "Hartree/Å": units.Hartree,
    "Hartree/Bohr": units.Hartree / units.Bohr,
}  # eV/Å

COVALENT = (5, 6, 7, 8, 9, 14, 15, 16, 17)  # elements whose bonds to hydrogen are alike
BOND = 1.25  # length of a bond relative to the sum of the covalent radii, at most
STRETCH = 0.1  # deviation of a bond's length, relative, within which it is a spring
TYPICAL_STIFFNESS = 32.0  # eV/Å², of such a bond; Si–H 17, C–H 30, N–H 40, O–H 48, F–H 60
SOFTEST = 6.0  # eV/Å², below which it is doubtful
FEWEST_BONDS = 20
CLEAR = 0.8  # correlation from which on something is said
LARGEST_FORCE = 10.0  # eV/Å, median over frames of the RMS component; 0.3 to 3 in usual data
FRAMES = 200  # looked at, at most


class Stiffness(NamedTuple):
    """Force constant of the bonds to hydrogen.

    Attributes:
        value: eV/Å².
        correlation: between force and stretch; 1 for ideal springs.
        bonds: that were looked at.
    """

    value: float
    correlation: float
    bonds: int


def unit_of_total_energies(structures: Sequence[Structure]) -> str | None:
    """The unit in which energies sum up to the total energies of the atoms, if it is not eV."""
    ratios = [
        s.energy / sum(ATOMS_IN_HARTREE[int(number)] for number in s.numbers)
        for s in structures
        if s.energy is not None and all(int(number) in ATOMS_IN_HARTREE for number in s.numbers)
    ]
    ratio = float(np.median(ratios)) if ratios else 0.0
    for name, unit in ENERGY_UNITS.items():
        if abs(ratio * unit / units.Hartree - 1) < TOTAL_TOLERANCE:
            return name
    return None


def check_force_scale(
    findings: Findings, name: str, structures: Sequence[Structure], limit: float
) -> None:
    """Judge the forces by the stiffness of bonds to hydrogen, else by their size.

    Args:
        findings: where to say so.
        name: of the subset.
        structures: of the subset.
        limit: largest plausible stiffness, eV/Å².
    """
    labelled = [s for s in structures if s.forces is not None]
    if not labelled:
        return
    places = np.unique(np.linspace(0, len(labelled) - 1, FRAMES, dtype=int))
    looked_at = [labelled[place] for place in places]
    found = hydrogen_stiffness(looked_at)
    if found is not None and abs(found.correlation) > CLEAR:
        _judge_stiffness(findings, name, found, limit)
        return
    size = float(np.median([np.sqrt(np.mean(np.square(s.forces))) for s in looked_at]))
    if size > LARGEST_FORCE:
        findings.warnings.append(
            f"{name}: force components of {size:.3g} eV/Å (RMS, median over the frames) are far "
            "larger than those of matter that is not torn apart or crushed (0.3 to 3 eV/Å up to "
            "1200 K); are the forces in kcal/mol/Å or kJ/mol/Å?"
        )


def hydrogen_stiffness(structures: Sequence[Structure]) -> Stiffness | None:
    """Force constant of single bonds to hydrogen, from forces and lengths.

    k = −Σ Δf Δr / Σ Δr², with r the length of a bond, f the force on the hydrogen along it, away
    from its partner, and Δ the deviation from the mean over the bonds with the same element. It
    hardly depends on the molecule, and not at all on the temperature.

    Args:
        structures: with forces.

    Returns:
        The stiffness; None for too few bonds.
    """
    stretches: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for structure in structures:
        for partner, length, force in _bonds_to_hydrogen(structure):
            stretches[partner].append((length, force))
    deviations = []
    for bonds in stretches.values():
        values = np.array(bonds)
        near = np.abs(values[:, 0] / np.median(values[:, 0]) - 1) < STRETCH
        deviations.append(values[near] - values[near].mean(axis=0))
    if sum(map(len, deviations)) < FEWEST_BONDS:
        return None
    length, force = np.concatenate(deviations).T
    norm = float(np.sqrt((length @ length) * (force @ force)))
    product = -float(length @ force)
    return Stiffness(
        product / max(float(length @ length), 1e-300), product / max(norm, 1e-300), len(length)
    )


def is_bonded(structures: Sequence[Structure]) -> bool:
    """Whether most atoms of some structures have a neighbour as close as a chemical bond."""
    bonded = total = 0
    for structure in structures:
        try:
            bonded += len(np.unique(_bonds(structure).atoms))
        except MlipError:  # two atoms on one spot, which has been said
            continue
        total += len(structure)
    return 2 * bonded > total


class _Bonds(NamedTuple):
    """Pairs as close as a chemical bond, each from both ends.

    Attributes:
        atoms: at this end.
        partners: at the other.
        vectors: from the atom to its partner, Å, shape (bonds, 3).
        lengths: Å.
    """

    atoms: np.ndarray
    partners: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray


def _bonds(structure: Structure) -> _Bonds:
    from ase.data import covalent_radii

    radii = covalent_radii[structure.numbers]
    pairs = neighbor_list(structure, BOND * 2 * float(radii.max()))
    vectors = structure.positions[pairs.senders] - structure.positions[pairs.receivers]
    vectors = vectors + pairs.shifts @ structure.cell
    lengths = np.linalg.norm(vectors, axis=1)
    near = lengths < BOND * (radii[pairs.receivers] + radii[pairs.senders])
    return _Bonds(pairs.receivers[near], pairs.senders[near], vectors[near], lengths[near])


def _bonds_to_hydrogen(structure: Structure) -> list[tuple[int, float, float]]:
    """Partner's atomic number, length (Å) and stretching force (eV/Å) of single bonds to H."""
    if structure.forces is None or not (structure.numbers == 1).any():
        return []
    try:
        bonds = _bonds(structure)
    except MlipError:  # two atoms on one spot, which has been said
        return []
    numbers = structure.numbers
    single = np.bincount(bonds.atoms, minlength=len(structure)) == 1
    chosen = (numbers[bonds.atoms] == 1) & single[bonds.atoms]
    chosen &= np.isin(numbers[bonds.partners], COVALENT)
    away = -np.sum(structure.forces[bonds.atoms] * bonds.vectors, axis=1) / bonds.lengths
    return list(
        zip(
            numbers[bonds.partners[chosen]].tolist(),
            bonds.lengths[chosen].tolist(),
            away[chosen].tolist(),
            strict=True,
        )
    )


def _judge_stiffness(findings: Findings, name: str, found: Stiffness, limit: float) -> None:
    said = (
        f"{name}: by their forces, {found.bonds} bonds to hydrogen have a force constant of "
        f"{found.value:.3g} eV/Å² (25 to 50 in usual molecules)"
    )
    if found.value > limit:
        findings.fatal.append(
            f"{said}: the forces are not in eV/Å{_unit_hint(found.value)}; convert energies and "
            "forces to eV and eV/Å, or raise dataset.preflight.max_bond_stiffness if eV/Å it is"
        )
    elif found.value < -SOFTEST:
        findings.warnings.append(
            f"{said}: the forces probably have the wrong sign (a force is minus the gradient)"
        )
    elif found.value < SOFTEST:
        findings.warnings.append(
            f"{said}: the forces are probably not in eV/Å{_unit_hint(found.value)}; check their "
            "unit"
        )
    else:
        findings.facts.append(said)


def _unit_hint(stiffness: float) -> str:
    """The unit of the forces that a stiffness speaks for."""
    for name, unit in FORCE_UNITS.items():
        if abs(np.log(abs(stiffness) * unit / TYPICAL_STIFFNESS)) < 0.5:
            return f", but probably in {name}"
    return ""
