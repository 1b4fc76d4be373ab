"""Do forces and stresses belong to the energies? Signs and units, from the data alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import units

from mlip.data.findings import Findings
from mlip.data.pair_fit import energy_scale
from mlip.data.splits import composition
from mlip.data.structure import Structure
from mlip.errors import MlipError

LONGEST_STEP = 0.2  # Å; beyond it the trapezoidal rule says nothing
SHORTEST_STEP = 1e-3  # Å; below it energies are the same to rounding
FEWEST = 5  # pairs or volumes from which on something is said
CLEAR = 0.8  # correlation from which on the data agree about something
RATIO = (0.8, 1.25)  # of two energies that should be one, still plausible
ROUGH_RATIO = (0.12, 8.0)  # likewise of two spreads, where one is that of a pair potential
EXPLAINED = 0.6  # share of the squared forces that a pair potential must explain to be asked
LARGEST_STRESS = 1.0  # eV/Å³ (160 GPa), RMS of plausible data
FACTORS = {
    "Hartree and Hartree/Bohr beside eV and Å": units.Hartree / units.Bohr,
    "Hartree beside eV": units.Hartree,
    "kcal/mol beside eV": units.kcal / units.mol,
    "kJ/mol beside eV": units.kJ / units.mol,
    "Hartree/Bohr beside Hartree/Å": 1 / units.Bohr,
}


def check_work(findings: Findings, name: str, pairs: Sequence[tuple[Structure, Structure]]) -> bool:
    """Compare energy differences with the work of the forces along short steps.

    ΔE ≈ W = −½ Σ (F₁ + F₂)·Δx. The ratio ΔE/W is 1; −1 shows a wrong sign of the forces, another
    number a difference of units. Its median says so: the first steps of a relaxation from a poor
    structure are too long for the rule.

    Args:
        findings: where to say so.
        name: of the subset.
        pairs: frames that follow each other.

    Returns:
        whether the forces clearly belong to the energies.
    """
    differences, works = [], []
    for first, second in pairs:
        done = _work(first, second)
        if done and first.energy is not None and second.energy is not None:
            differences.append(second.energy - first.energy)
            works.append(done)
    if len(works) < FEWEST:
        findings.facts.append(
            f"{name}: too few frames follow each other in small steps to compare forces with "
            "energy differences"
        )
        return False
    work, difference = np.array(works), np.array(differences)
    correlation, ratio = _correlation(work, difference), float(np.median(difference / work))
    found = (
        f"{name}: over {len(works)} small steps from frame to frame, energy differences are "
        f"{ratio:.3g} times the work of the forces (expected 1; correlation {correlation:.2f})"
    )
    if abs(correlation) < CLEAR:
        findings.facts.append(f"{found}: no clear relation, these steps say nothing")
    elif correlation < 0:
        findings.warnings.append(f"{found}: the forces probably have the wrong sign")
    elif RATIO[0] < ratio < RATIO[1]:
        findings.facts.append(found)
        return True
    else:
        findings.warnings.append(
            f"{found}: energies and forces probably have different units{_factor(ratio)}"
        )
    return False


def check_energy_scale(findings: Findings, name: str, structures: Sequence[Structure]) -> None:
    """Judge energy differences by those that the forces imply, where no steps show their work.

    Args:
        findings: where to say so.
        name: of the subset.
        structures: of the subset.
    """
    try:
        found = energy_scale(structures)
    except MlipError:  # two atoms on one spot, which has been said
        return
    if found is None or found.explained < EXPLAINED or not found.labelled * found.implied:
        return
    ratio = found.labelled / found.implied
    said = (
        f"{name}: over {found.frames} frames of the same atoms the energies spread by "
        f"{found.labelled:.3g} eV, those that the forces imply by {found.implied:.3g} eV (of a "
        "pair potential fitted to the forces; expected to be alike)"
    )
    if found.correlation < -CLEAR:
        findings.warnings.append(f"{said}, in the opposite sense: is the sign of the forces wrong?")
    elif ROUGH_RATIO[0] < ratio < ROUGH_RATIO[1]:
        findings.facts.append(said)
    else:
        findings.warnings.append(
            f"{said}: energies and forces probably have different units, such as eV beside "
            "kcal/mol/Å (a factor of 23), Hartree (27) or Hartree/Bohr (51)"
        )


def check_stresses(findings: Findings, name: str, structures: Sequence[Structure]) -> None:
    """Check the size of the stresses, and their sign by how they change with the volume.

    Tension is positive: where the same atoms have more volume, the mean normal stress is larger.

    Args:
        findings: where to say so.
        name: of the subset.
        structures: of the subset.
    """
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for s in structures:
        if s.stress is not None:
            log_volume = float(np.log(abs(np.linalg.det(s.cell))))
            groups[composition(s.numbers)].append((log_volume, float(np.trace(s.stress)) / 3))
    stresses = [s.stress for s in structures if s.stress is not None]
    if not stresses:
        return
    rms = float(np.sqrt(np.mean(np.square(stresses))))
    found = f"{name}: RMS stress component {rms:.3g} eV/Å³ ({rms / units.GPa:.3g} GPa)"
    if rms > LARGEST_STRESS:
        findings.warnings.append(f"{found}; were these GPa, kbar, or virials in eV?")
    else:
        findings.facts.append(found)
    centred = [np.array(group) - np.mean(group, axis=0) for group in groups.values()]
    volume, stress = np.concatenate(centred).T
    if np.count_nonzero(np.abs(volume) > 1e-3) < FEWEST:
        return
    correlation = _correlation(volume, stress)
    found = (
        f"{name}: correlation {correlation:.2f} between mean normal stress and logarithm of the "
        "volume among frames of the same atoms"
    )
    if correlation < -CLEAR:
        findings.warnings.append(
            f"{found}: expanded cells should be under tension, which is positive here, so the "
            "stress probably has the opposite sign"
        )
    else:
        findings.facts.append(found)


def _work(first: Structure, second: Structure) -> float | None:
    """Work of the forces from one frame to the other, eV; None if that cannot be said."""
    if first.forces is None or second.forces is None:
        return None
    if not np.array_equal(first.numbers, second.numbers):
        return None
    if not np.allclose(first.cell, second.cell):
        return None
    steps = second.positions - first.positions
    if not SHORTEST_STEP < np.abs(steps).max() < LONGEST_STEP:
        return None
    return float(-0.5 * np.sum((first.forces + second.forces) * steps))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation about zero."""
    return float(x @ y / max(float(np.sqrt((x @ x) * (y @ y))), 1e-300))


def _factor(ratio: float) -> str:
    """The known factor between units that a ratio is near, as a hint."""
    for name, factor in FACTORS.items():
        for known in (factor, 1 / factor):
            if abs(np.log(max(ratio, 1e-300) / known)) < 0.1:
                return f" (such as {name})"
    return ""
