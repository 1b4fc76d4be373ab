"""PubChemQCR: relaxation trajectories of molecules, gzipped pickles of plain objects in LMDBs.

A record is a molecule: under `pm3`, `hf`, `DFT_1st` and `DFT_2nd` the steps of its relaxations at
these levels, in Å, Hartree and Hartree/Bohr. Here every step is a record of its own, and the
molecule is its trajectory.
"""

from __future__ import annotations

import gzip
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree

from mlip.data.sources.cache import cached_index
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.restricted_pickle import loads
from mlip.data.sources.source import BadRecordError, EnergyReference, Source, decoding
from mlip.data.structure import Structure
from mlip.errors import MlipError

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
STEP = np.dtype([("cid", "u4"), ("phase", "u1"), ("step", "u2"), ("atoms", "u2"), ("fault", "u1")])
ELEMENTS = {symbol.lower(): number for symbol, number in atomic_numbers.items() if number}


class PubChemQcrSource(Source):
    """The steps of one stage in a file; its index is made once, decoding every molecule.

    Steps that lack data, have mismatched lengths or numbers that are not finite are left out and
    counted in `notes`. Energies are total energies.

    Args:
        path: the LMDB; its keys are the molecules' PubChem CIDs, nine digits.
        stage: the relaxations to read.

    Raises:
        MlipError: if the file cannot be read, its keys are no CIDs, or no step is usable.
    """

    def __init__(self, path: Path, *, stage: Stage = "1st") -> None:
        if stage not in get_args(Stage):
            raise MlipError(f"stage={stage}: choose one of {', '.join(get_args(Stage))}.")
        self.path = path
        self.stage = stage
        if not len(self):
            notes = "; ".join(self.notes)
            raise MlipError(f"{path} has no usable step of stage {stage}{notes and f': {notes}'}.")

    @cached_property
    def _file(self) -> LmdbFile:
        return LmdbFile(self.path)

    @cached_property
    def _steps(self) -> np.ndarray:
        """The usable steps, then the others."""
        return cached_index(
            self.path, f"steps-{self.stage}", lambda: _list_steps(self._file, self.stage)
        )

    @cached_property
    def _length(self) -> int:
        fault = self._steps["fault"]
        return bisect_left(range(len(fault)), 1, key=lambda index: int(fault[index]))

    @cached_property
    def _last_molecule(self) -> list[tuple[int, dict[str, Any]]]:
        """The molecule decoded last, so that steps in order cost one decoding; at most one."""
        return []

    def __len__(self) -> int:
        return self._length

    @property
    def energy_reference(self) -> EnergyReference:
        return "total"

    @property
    def notes(self) -> tuple[str, ...]:
        left_out = self._steps["fault"][self._length :]
        counts = np.bincount(left_out, minlength=len(FAULTS))
        return tuple(
            f"{self.path.name}: left out {count} steps of stage {self.stage} that {FAULTS[fault]}"
            for fault, count in enumerate(counts)
            if count
        )

    def identifier(self, index: int) -> str:
        step = self._steps[index]
        name = f"{self.path.name}#{step['cid']:09d}"
        return name if step["step"] == WHOLE else f"{name}/{PHASES[step['phase']]}/{step['step']}"

    def trajectory(self, index: int) -> str:
        return f"{self._steps[index]['cid']:09d}"

    def num_atoms(self, index: int) -> int:
        return int(self._steps[index]["atoms"])

    def atomic_numbers(self, index: int) -> np.ndarray:
        entry, molecule = self._find(index)
        with decoding(self.identifier(index)):
            return np.array(_numbers(_step_of(molecule, entry)), np.int32)

    def sizes(self) -> np.ndarray:
        return self._steps["atoms"][: self._length].astype(np.int32)

    def __getitem__(self, index: int) -> Structure:
        entry, molecule = self._find(index)
        name = self.identifier(index)
        with decoding(name):
            step = _read_step(_step_of(molecule, entry))
            return Structure(
                numbers=np.array(step.numbers, np.int32),
                positions=step.positions,
                energy=step.energy * Hartree,
                forces=step.gradient * (-Hartree / Bohr),
                identifier=name,
            )

    def _find(self, index: int) -> tuple[np.void, dict[str, Any]]:
        """The entry of a step, and its molecule."""
        if not 0 <= index < self._length:
            raise IndexError(f"step {index} of {self._length}")
        entry = self._steps[index]
        return entry, self._molecule(int(entry["cid"]))

    def _molecule(self, cid: int) -> dict[str, Any]:
        recent = self._last_molecule[-1:]
        if not recent or recent[0][0] != cid:
            key = b"%09d" % cid
            recent = [(cid, _decode(self._file.get(key), f"{self.path.name}#{key.decode()}"))]
            self._last_molecule[:] = recent
        return recent[0][1]


class _Step(NamedTuple):
    """Energy in Hartree, positions in Å, gradient in Hartree/Bohr."""

    numbers: list[int]
    positions: np.ndarray
    energy: float
    gradient: np.ndarray


def _decode(data: bytes | None, name: str) -> dict[str, Any]:
    if data is None:
        raise BadRecordError(name, "the molecule is missing; copy the file again.")
    with decoding(name):
        molecule = loads(gzip.decompress(data), name)
    if not isinstance(molecule, dict):
        kind = type(molecule).__name__
        raise BadRecordError(name, f"the record is a {kind}, expected a dictionary of relaxations.")
    return molecule


def _step_of(molecule: dict[str, Any], entry: np.void) -> Any:
    return molecule[PHASES[entry["phase"]]][entry["step"]]


def _numbers(step: dict[str, Any]) -> list[int]:
    return [ELEMENTS[atom["atom"].strip().lower()] for atom in step["coordinates"]]


def _read_step(step: dict[str, Any]) -> _Step:
    atoms, gradient = step["coordinates"], step["gradient"]
    return _Step(
        _numbers(step),
        np.array([(atom["x"], atom["y"], atom["z"]) for atom in atoms], np.float64),
        float(step["energy"]),
        np.array([(atom["dx"], atom["dy"], atom["dz"]) for atom in gradient], np.float64),
    )


def _list_steps(file: LmdbFile, stage: str) -> np.ndarray:
    """Every step of a stage, an array of `STEP`: the usable ones in the order of the file first."""
    columns = [array(STEP[name].char) for name in STEP.names or ()]
    for key, data in file.items():
        if not (len(key) == 9 and key.isdigit()):
            raise MlipError(
                f"{file.path}: the key {key[:20]!r} is no PubChem CID of nine digits, so this is "
                "no PubChemQCR file; name its format with the option format."
            )
        for row in _steps_of_molecule(data, stage):
            for column, value in zip(columns, (int(key), *row), strict=True):
                column.append(value)
    steps = np.zeros(len(columns[0]), STEP)
    for name, column in zip(STEP.names or (), columns, strict=True):
        steps[name] = np.frombuffer(column, STEP[name]) if len(column) else ()
    return steps[np.argsort(steps["fault"], kind="stable")]


def _steps_of_molecule(data: bytes, stage: str) -> Iterator[tuple[int, int, int, int]]:
    """Phase, step, number of atoms and fault of the steps of a molecule."""
    try:
        molecule = _decode(data, "molecule")
        with decoding("molecule"):
            phases = [
                (phase, list(molecule.get(PHASES[phase]) or ())) for phase in PHASES_OF[stage]
            ]
    except BadRecordError:
        yield PHASES_OF[stage][0], WHOLE, 0, 0  # reading it says what is wrong
        return
    for phase, steps in phases:
        kept = [
            number
            for number, step in enumerate(steps)
            if stage != "1st_smash" or _made_by_smash(step)
        ]
        found = [_assess(steps[number]) for number in kept]
        expected = next((atoms for atoms, fault in reversed(found) if not fault), 0)
        for number, (atoms, fault) in zip(kept, found, strict=True):
            differs = not fault and atoms != expected
            yield phase, number, atoms, MISMATCHED if differs else fault


def _made_by_smash(step: Any) -> bool:
    """Whether a step lacks the charges that the other program writes."""
    atoms = step.get("coordinates") if isinstance(step, dict) else None
    return bool(atoms and "charge" not in atoms[0])


def _assess(step: Any) -> tuple[int, int]:
    """Number of atoms and fault of a step."""
    try:
        if not step.get("coordinates") or not step.get("gradient") or step.get("energy") is None:
            return 0, MISSING
        _, positions, energy, gradient = _read_step(step)
    except (AttributeError, LookupError, TypeError, ValueError):
        return 0, UNREADABLE
    if positions.shape != gradient.shape:
        return len(positions), MISMATCHED
    finite = np.isfinite(energy) and np.isfinite(positions).all() and np.isfinite(gradient).all()
    return len(positions), 0 if finite else NOT_FINITE
