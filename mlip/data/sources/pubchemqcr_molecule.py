"""A record of PubChemQCR: the relaxations of a molecule, their steps, what is wrong with them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree

from mlip.data.sources.restricted_pickle import loads
from mlip.data.sources.source import BadRecordError, decoding
from mlip.data.structure import Structure

Stage = Literal["pm3", "hf", "1st", "1st_smash", "2nd", "mixing"]
"""The relaxations to read: PM3; Hartree–Fock; the first of B3LYP/6-31G*; those steps of it that
were made by SMASH; the second of B3LYP/6-31G*; the first and the second."""

PHASES = ("pm3", "hf", "DFT_1st", "DFT_2nd")
PHASES_OF: dict[str, tuple[int, ...]] = {
    "pm3": (0,), "hf": (1,), "1st": (2,), "1st_smash": (2,), "2nd": (3,), "mixing": (2, 3),
}  # fmt: skip
FAULTS = (
    "",
    "lack coordinates, an energy or gradients",
    "have another number of gradients or atoms than the rest",
    "have a number that is not finite",
    "have an unknown element, or something else where a number belongs",
)
MISSING, MISMATCHED, NOT_FINITE, UNREADABLE = range(1, 5)
WHOLE = np.iinfo(np.uint16).max  # the step of a molecule that cannot be decoded
ELEMENTS = {symbol.lower(): number for symbol, number in atomic_numbers.items() if number}


class _Raw(NamedTuple):
    """Energy in Hartree, positions in Å, gradient in Hartree/Bohr."""

    numbers: np.ndarray
    positions: np.ndarray
    energy: float
    gradient: np.ndarray


class Step(NamedTuple):
    """A step as it is listed.

    Attributes:
        phase: number of its relaxation in `PHASES`.
        step: its number there; `WHOLE` for a molecule that cannot be decoded.
        atoms: number of its atoms.
        fault: number of what is wrong with it in `FAULTS`.
        structure: what it holds, if it can be used.
    """

    phase: int
    step: int
    atoms: int
    fault: int
    structure: Structure | None


def decode(data: bytes | None, name: str) -> dict[str, Any]:
    """The relaxations of a molecule.

    Args:
        data: its record, None if it is missing.
        name: of the record.

    Raises:
        BadRecordError: for a record that is missing, damaged or something else.
    """
    if data is None:
        raise BadRecordError(name, "the molecule is missing; copy the file again.")
    with decoding(name):
        molecule = loads(gzip.decompress(data), name)
    if not isinstance(molecule, dict):
        kind = type(molecule).__name__
        raise BadRecordError(name, f"the record is a {kind}, expected a dictionary of relaxations.")
    return molecule


def numbers_of(step: dict[str, Any]) -> np.ndarray:
    """Atomic numbers of a step, int32."""
    symbols = (atom["atom"].strip().lower() for atom in step["coordinates"])
    return np.array([ELEMENTS[symbol] for symbol in symbols], np.int32)


def structure_of(step: dict[str, Any], name: str) -> Structure:
    """The structure of a step, in eV and Å."""
    return _structure(_read(step), name)


def steps_of(data: bytes, stage: str) -> Iterator[Step]:
    """The steps of a stage of a molecule."""
    try:
        molecule = decode(data, "molecule")
        with decoding("molecule"):
            phases = [
                (phase, list(molecule.get(PHASES[phase]) or ())) for phase in PHASES_OF[stage]
            ]
    except BadRecordError:
        yield Step(PHASES_OF[stage][0], WHOLE, 0, 0, None)  # reading it says what is wrong
        return
    for phase, steps in phases:
        found = [
            _assess(phase, number, step)
            for number, step in enumerate(steps)
            if stage != "1st_smash" or _made_by_smash(step)
        ]
        expected = next((step.atoms for step in reversed(found) if not step.fault), 0)
        for step in found:
            differs = not step.fault and step.atoms != expected
            yield step._replace(fault=MISMATCHED, structure=None) if differs else step


def _made_by_smash(step: Any) -> bool:
    """Whether a step lacks the charges that the other program writes."""
    atoms = step.get("coordinates") if isinstance(step, dict) else None
    return bool(atoms and "charge" not in atoms[0])


def _assess(phase: int, number: int, step: Any) -> Step:
    try:
        if not step.get("coordinates") or not step.get("gradient") or step.get("energy") is None:
            return Step(phase, number, 0, MISSING, None)
        raw = _read(step)
    except (AttributeError, LookupError, TypeError, ValueError):
        return Step(phase, number, 0, UNREADABLE, None)
    atoms = len(raw.positions)
    if raw.positions.shape != raw.gradient.shape:
        return Step(phase, number, atoms, MISMATCHED, None)
    if not all(np.isfinite(part).all() for part in (raw.energy, raw.positions, raw.gradient)):
        return Step(phase, number, atoms, NOT_FINITE, None)
    return Step(phase, number, atoms, 0, _structure(raw, "molecule"))


def _read(step: dict[str, Any]) -> _Raw:
    atoms, gradient = step["coordinates"], step["gradient"]
    return _Raw(
        numbers_of(step),
        np.array([(atom["x"], atom["y"], atom["z"]) for atom in atoms], np.float64),
        float(step["energy"]),
        np.array([(atom["dx"], atom["dy"], atom["dz"]) for atom in gradient], np.float64),
    )


def _structure(raw: _Raw, name: str) -> Structure:
    return Structure(
        numbers=raw.numbers,
        positions=raw.positions,
        energy=raw.energy * Hartree,
        forces=raw.gradient * (-Hartree / Bohr),
        identifier=name,
    )
