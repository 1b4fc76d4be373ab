"""Do energies and forces belong together? A pair potential fitted to the forces answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlip.data.neighbors import neighbor_list
from mlip.data.splits import composition
from mlip.data.structure import Structure

CUTOFF = 4.5  # Å
CENTRES = np.geomspace(0.7, 4.0, 10)  # Å, of the functions of the distance
WIDTH = np.log(CENTRES[1] / CENTRES[0])
FEWEST = 10  # frames of the same atoms from which on something is said
MOST = 40  # frames that are fitted
LARGEST = 200  # atoms of a frame that is fitted, at most
ELEMENTS = 8  # in it, at most; every pair of elements has coefficients of its own
RELAXED = 0.1  # eV/Å, RMS force below which frames are minima, whose energies no force tells
DAMPING = 1e-6  # of the fit, relative to the largest squared singular value


class EnergyScale(NamedTuple):
    """How labelled energy differences compare with those that the forces imply.

    Attributes:
        labelled: standard deviation of the energies, eV.
        implied: likewise, of those of the pair potential.
        correlation: between the two.
        explained: share of the squared forces that the pair potential explains.
        frames: that were compared.
    """

    labelled: float
    implied: float
    correlation: float
    explained: float
    frames: int


def energy_scale(structures: Sequence[Structure]) -> EnergyScale | None:
    """Compare energies with those of a pair potential that is fitted to the forces.

    E = Σ_pairs φ_zz'(r) and F = −∂E/∂x are linear in the coefficients of φ, which follow from the
    forces of frames of the same atoms by least squares. Its energies differ between these frames
    as the labels do, in unit and in sign, as far as pairs describe the matter at all.

    Args:
        structures: with energies and forces.

    Returns:
        The comparison; None for too few frames of the same atoms, relaxed frames, or atoms without
        neighbours.
    """
    frames = _alike(structures)
    labels = np.concatenate([np.zeros(0), *(s.forces.ravel() for s in frames)])  # type: ignore[union-attr]
    if len(frames) < FEWEST or np.sqrt(np.mean(labels**2)) < RELAXED:
        return None
    kinds = _kinds(frames)
    designs = [_design(frame, kinds) for frame in frames]
    energies, forces = (np.concatenate(parts) for parts in zip(*designs, strict=True))
    normal = forces.T @ forces
    if not normal.any():
        return None  # atoms too far apart to feel each other
    damped = normal + DAMPING * np.trace(normal) * np.eye(len(normal))
    coefficients = np.linalg.solve(damped, forces.T @ labels)
    residual = labels - forces @ coefficients
    implied = energies @ coefficients
    given = np.array([s.energy for s in frames], float)
    spreads = float(given.std()), float(implied.std())
    covariance = float(np.mean((given - given.mean()) * (implied - implied.mean())))
    return EnergyScale(
        *spreads,
        covariance / max(spreads[0] * spreads[1], 1e-300),
        1 - float(residual @ residual / (labels @ labels)),
        len(frames),
    )


def _alike(structures: Sequence[Structure]) -> list[Structure]:
    """Frames of the same atoms and cell, from the largest group of such, evenly spaced."""
    groups: dict[str, list[Structure]] = defaultdict(list)
    for s in structures:
        fits = 1 < len(s) <= LARGEST and len(np.unique(s.numbers)) <= ELEMENTS
        if fits and s.energy is not None and s.forces is not None:
            groups[f"{composition(s.numbers)} {s.cell.round(3).tolist()}"].append(s)
    if not groups:
        return []
    largest = max(groups.values(), key=len)
    places = np.unique(np.linspace(0, len(largest) - 1, MOST, dtype=int))
    return [largest[place] for place in places.tolist()]


def _kinds(frames: Sequence[Structure]) -> dict[tuple[int, int], int]:
    """Numbers of the pairs of elements."""
    elements = np.unique(frames[0].numbers).tolist()
    pairs = [(a, b) for a in elements for b in elements if a <= b]
    return {pair: number for number, pair in enumerate(pairs)}


def _design(
    structure: Structure, kinds: dict[tuple[int, int], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Energy and forces of a frame for every coefficient of the pair potential.

    Returns:
        arrays of shape (1, K) and (3 n, K).
    """
    pairs = neighbor_list(structure, CUTOFF)
    vectors = structure.positions[pairs.senders] - structure.positions[pairs.receivers]
    vectors = vectors + pairs.shifts @ structure.cell
    r = np.linalg.norm(vectors, axis=1)[:, None]
    deviation = np.log(r / CENTRES) / WIDTH
    envelope, slope = (1 - (r / CUTOFF) ** 2) ** 2, -4 * r / CUTOFF**2 * (1 - (r / CUTOFF) ** 2)
    gauss = np.exp(-0.5 * deviation**2)
    value = gauss * envelope
    derivative = gauss * (slope - envelope * deviation / (WIDTH * r))
    ends = np.sort(
        np.stack([structure.numbers[pairs.receivers], structure.numbers[pairs.senders]]), 0
    )
    kind = np.array([kinds[a, b] for a, b in ends.T.tolist()], int)
    n, size = len(structure), len(CENTRES)
    energy = np.zeros((len(kinds), size))
    np.add.at(energy, kind, 0.5 * value)
    forces = np.zeros((n, 3, len(kinds), size))
    # A pair counts once from each end, so that the force on the receiver is φ' along the vector.
    direction = vectors / r
    np.add.at(
        forces.transpose(0, 2, 1, 3),
        (pairs.receivers, kind),
        direction[:, :, None] * derivative[:, None, :],
    )
    return energy.reshape(1, -1), forces.reshape(3 * n, -1)
