"""Writing labelled structures: extended XYZ, ASE-LMDB and ASE databases, to the last digit.

Labels are in eV and Å, as everywhere here, under the names `energy`, `forces` and `stress`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lmdb
import numpy as np

from mlip.data.sources.ase_lmdb import METADATA, NEXT_ID
from mlip.data.sources.lmdb_file import make_room
from mlip.data.sources.source import REFERENCE, EnergyReference
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms

BATCH = 500  # rows written in one transaction
ROOM = 1 << 26  # bytes by which the map of an LMDB grows


class Writer(ABC):
    """Writes structures into one file.

    Args:
        path: the file.
        reference: what the energies count from, which the file says unless it is `unstated`.

    Attributes:
        lost: what structures had that the format cannot hold, and how many had it.
    """

    holds: ClassVar[frozenset[str]]  # of spin, weight, trajectory

    def __init__(self, path: Path, reference: EnergyReference) -> None:
        self.path = path
        self.lost: Counter[str] = Counter()
        self._about = {} if reference == "unstated" else {REFERENCE: reference}

    def add(self, structure: Structure, trajectory: str | None) -> None:
        """Write a structure.

        Args:
            structure: with its labels.
            trajectory: what it must not be split from; None if it stands alone.
        """
        has = {
            "spin": structure.spin != 0,
            "weight": structure.weight != 1,
            "trajectory": trajectory is not None,
        }
        self.lost.update(name for name, there in has.items() if there and name not in self.holds)
        self._write(structure, trajectory)

    @abstractmethod
    def _write(self, structure: Structure, trajectory: str | None) -> None:
        """Write a structure, with the name of its trajectory if it has one."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


class ExtxyzWriter(Writer):
    """Extended XYZ; every number with all its digits."""

    holds = frozenset({"spin", "trajectory"})

    def __init__(self, path: Path, reference: EnergyReference) -> None:
        super().__init__(path, reference)
        self._file = path.open("w", encoding="utf-8")

    def _write(self, structure: Structure, trajectory: str | None) -> None:
        self._file.write(extxyz_frame(structure, trajectory, self._about))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class AseLmdbWriter(Writer):
    """ASE-LMDB: rows of zlib-compressed JSON; the trajectory becomes `sid`."""

    holds = frozenset({"trajectory"})

    def __init__(self, path: Path, reference: EnergyReference) -> None:
        super().__init__(path, reference)
        self._environment = lmdb.open(str(path), subdir=False, lock=False, map_size=ROOM)
        self._waiting: list[bytes] = []
        self._written = 0

    def _write(self, structure: Structure, trajectory: str | None) -> None:
        row = json.dumps(_ase_row(structure, trajectory, self._written + len(self._waiting)))
        self._waiting.append(zlib.compress(row.encode()))
        if len(self._waiting) == BATCH:
            self._flush()

    def close(self) -> None:
        """Write the last rows, how many there are and what their energies count from."""
        self._flush()
        if self._about:
            with self._environment.begin(write=True) as transaction:
                transaction.put(METADATA, zlib.compress(json.dumps(self._about).encode()))
        self._environment.close()

    def _flush(self) -> None:
        make_room(self._environment, 4 * sum(map(len, self._waiting)) + ROOM // 2)
        with self._environment.begin(write=True) as transaction:
            for row in self._waiting:
                self._written += 1
                transaction.put(b"%d" % self._written, row)
            transaction.put(NEXT_ID, zlib.compress(b"%d" % (self._written + 1)))
        self._waiting.clear()


class AseDatabaseWriter(Writer):
    """ASE's sqlite database, by ASE."""

    holds: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, path: Path, reference: EnergyReference) -> None:
        from ase.db import connect

        super().__init__(path, reference)
        self._database = connect(str(path), type="db", append=False, use_lock_file=False)
        self._waiting: list[Structure] = []

    def _write(self, structure: Structure, trajectory: str | None) -> None:
        self._waiting.append(structure)
        if len(self._waiting) == BATCH:
            self._flush()

    def close(self) -> None:
        """Write the last rows, and what their energies count from."""
        self._flush()
        if self._about:
            self._database.metadata = self._about

    def _flush(self) -> None:
        with self._database as database:
            for structure in self._waiting:
                database.write(to_atoms(structure), data=_extra(structure))
        self._waiting.clear()


WRITERS: dict[str, type[Writer]] = {
    ".xyz": ExtxyzWriter,
    ".extxyz": ExtxyzWriter,
    ".aselmdb": AseLmdbWriter,
    ".db": AseDatabaseWriter,
}


@contextmanager
def written(output: Path, reference: EnergyReference) -> Iterator[Writer]:
    """A writer for a new file, which gets its name when it is complete.

    Args:
        output: the file; its ending names the format.
        reference: what the energies count from.

    Raises:
        MlipError: for an ending that no writer has, a file that exists or cannot be written.
    """
    writer_class = WRITERS.get(output.suffix)
    if writer_class is None:
        raise MlipError(f"{output}: expected a name ending in {', '.join(WRITERS)} or .lmdb.")
    if output.exists():
        raise MlipError(f"{output} exists; remove it, or choose another name.")
    partial = output.with_name(output.name + ".partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        writer = writer_class(partial, reference)
        try:
            yield writer
        finally:
            writer.close()
        partial.replace(output)
    except (OSError, lmdb.Error, sqlite3.Error) as error:
        raise MlipError(
            f"{output} cannot be written ({error}); make room or choose another output, and start "
            "the same command again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def extxyz_frame(structure: Structure, trajectory: str | None, about: Mapping[str, str]) -> str:
    """A frame of extended XYZ, in which every number has all its digits.

    Args:
        structure: with its labels.
        trajectory: name of its trajectory.
        about: what else its comment line says.
    """
    from ase.data import chemical_symbols
    from ase.io.extxyz import key_val_dict_to_str

    columns: dict[str, tuple[str, np.ndarray]] = {"pos:R:3": ("R", structure.positions)}
    if structure.forces is not None:
        columns["forces:R:3"] = ("R", structure.forces)
    if structure.fixed is not None:
        columns["move_mask:L:1"] = ("L", ~structure.fixed)
    if structure.tags is not None:
        columns["tags:I:1"] = ("I", structure.tags)
    values = {
        "Lattice": structure.cell if structure.cell.any() else None,
        "Properties": ":".join(["species:S:1", *columns]),
        "energy": structure.energy,
        **about,
        "stress": structure.stress,
        "charge": structure.charge or None,
        "spin": structure.spin or None,
        "config_type": structure.group or None,
        "trajectory": trajectory,
        "pbc": structure.pbc,
    }
    known = {name: value for name, value in values.items() if value is not None}
    symbols = [chemical_symbols[number] for number in structure.numbers]
    texts = [[_digits(kind, row) for row in array] for kind, array in columns.values()]
    lines = map(" ".join, zip(symbols, *texts, strict=True))
    return "\n".join([str(len(structure)), key_val_dict_to_str(known), *lines, ""])


def to_atoms(structure: Structure) -> Atoms:
    """ASE atoms with the labels as results of a calculator."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    if structure.tags is not None:
        atoms.set_tags(structure.tags)
    if structure.fixed is not None:
        atoms.set_constraint(FixAtoms(mask=structure.fixed))
    results = {
        "energy": structure.energy,
        "forces": structure.forces,
        "stress": None if structure.stress is None else _voigt(structure.stress),
    }
    known = {name: value for name, value in results.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def _digits(kind: str, row: np.ndarray) -> str:
    """The cells of one atom: all the digits of a number, T or F."""
    if kind == "L":
        return "T" if row else "F"
    return str(row) if row.ndim == 0 else " ".join(map(repr, row.tolist()))


def _voigt(stress: np.ndarray) -> np.ndarray:
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _extra(structure: Structure) -> dict[str, Any]:
    """What ASE has no place for."""
    values = {"charge": structure.charge, "config_type": structure.group}
    return {name: value for name, value in values.items() if value}


def _ase_row(structure: Structure, trajectory: str | None, number: int) -> dict[str, Any]:
    """A row as ASE describes one; arrays are encoded as ASE's JSON does."""

    def array(values: np.ndarray) -> dict[str, Any]:
        return {"__ndarray__": [list(values.shape), values.dtype.name, values.ravel().tolist()]}

    s = structure
    row: dict[str, Any] = {
        "numbers": array(s.numbers),
        "positions": array(s.positions),
        "cell": array(s.cell),
        "pbc": array(s.pbc),
        "unique_id": hashlib.md5(f"{s.identifier} {number}".encode()).hexdigest(),
        "ctime": 0.0,
        "mtime": 0.0,
        "user": "",
        "key_value_pairs": {},
        "data": {},
    }
    if s.energy is not None:
        row["energy"] = s.energy
    if s.forces is not None:
        row["forces"] = array(s.forces)
    if s.stress is not None:
        row["stress"] = array(_voigt(s.stress))
    if s.tags is not None:
        row["tags"] = array(s.tags)
    if s.fixed is not None:
        indices = np.flatnonzero(s.fixed).tolist()
        row["constraints"] = [{"name": "FixAtoms", "kwargs": {"indices": indices}}]
    row["data"] = _extra(s) if trajectory is None else {"sid": trajectory, **_extra(s)}
    return row
