"""ASE's sqlite databases (`.db`), with what SchNetPack and nablaDFT add: units, references."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import ChainMap
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import (
    as_dicts,
    available,
    fixed_mask,
    read_labels,
)
from mlip.data.sources.source import (
    EnergyReference,
    agreed_reference,
    decoding,
    reference_in,
    require_file,
)
from mlip.data.sources.units import unit
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase.db.row import AtomsRow
    from ase.db.sqlite import SQLite3Database

RESULTS = ("energy", "free_energy", "forces", "stress", "charge")  # columns of the calculator


class AseDatabaseSource(LabelledFile):
    """The rows of an ASE database by ascending id.

    Labels are looked up among the calculator's results, which are in eV and Å, the key-value
    pairs and the data of a row. The two latter have the units of the metadata
    `_property_unit_dict`, positions and cell that of `_distance_unit`; eV and Å where it names
    none. Where the metadata hold `atomrefs`, the energies of isolated atoms, it is told from the
    size of the first energy whether they have been subtracted.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies shall count from. With `atomrefs`, total and
            atomisation energies are converted into each other; where the metadata do not say what
            they count from, this is your statement. None: as they are.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the file cannot be read, none of some rows has a label key, a unit is
            unknown, or the energies cannot be converted.
    """

    def _prepare(self) -> None:
        path = self.path
        if not len(self):
            raise MlipError(f"{path} is a database without rows.")
        metadata = self._connection().metadata
        properties = metadata.get("_property_unit_dict", {})
        self._units = {key: unit(name, f"{path}: {key}") for key, name in properties.items()}
        self._length = unit(metadata.get("_distance_unit", "Ang"), f"{path}: distances")
        references = metadata.get("atomrefs", {}).get(self._keys.energy)
        self._atoms = None if references is None else np.asarray(references, np.float64).ravel()

    def _agree(self, stated: EnergyReference | None) -> EnergyReference:
        convertible = self._atoms is not None and {self._said, stated} == {"total", "atomisation"}
        if convertible and stated is not None:
            return stated
        return agreed_reference(self.path, self._said, stated)

    @property
    def elements(self) -> frozenset[int] | None:
        rows = self._connection().connection.execute("SELECT DISTINCT Z FROM species").fetchall()
        return frozenset(number for (number,) in rows)

    @cached_property
    def _rows(self) -> np.ndarray:
        """Ids and numbers of atoms, shape (rows, 2)."""
        connection = self._connection().connection
        rows = connection.execute("SELECT id, natoms FROM systems ORDER BY id").fetchall()
        return np.array(rows, np.int64).reshape(-1, 2)

    @cached_property
    def _opened(self) -> threading.local:
        return threading.local()

    def _connection(self) -> SQLite3Database:
        """The database, opened for this thread and process."""
        from ase.db.sqlite import SQLite3Database

        opened = self._opened
        if getattr(opened, "process", None) != os.getpid():
            _require_ase(self.path)
            opened.database = SQLite3Database(str(self.path), use_lock_file=False).__enter__()
            opened.process = os.getpid()
        database: SQLite3Database = opened.database
        return database

    def __len__(self) -> int:
        return len(self._rows)

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{self._rows[index, 0]}"

    def num_atoms(self, index: int) -> int:
        return int(self._rows[index, 1])

    def atomic_numbers(self, index: int) -> np.ndarray:
        database = self._connection()
        row_id = int(self._rows[index, 0])
        with decoding(self.identifier(index)):
            query = "SELECT numbers FROM systems WHERE id = ?"
            (blob,) = database.connection.execute(query, (row_id,)).fetchone()
            return np.asarray(database.deblob(blob, np.int32), np.int32)

    def sizes(self) -> np.ndarray:
        return self._rows[:, 1].astype(np.int32)

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        row = self._row(index)
        with decoding(name):
            structure = _bare_structure(row, self._length, name)
            labels = read_labels(
                self._values(row),
                self._keys,
                name,
                len(structure),
                structure.cell,
                structure.pbc,
            )
            if labels["energy"] is not None:
                labels["energy"] += self._shift(structure.numbers)
            return replace(structure, **labels)

    def _row(self, index: int) -> AtomsRow:
        database = self._connection()
        row_id = int(self._rows[index, 0])
        with decoding(self.identifier(index)):
            return database.get(row_id)

    def _values(self, row: AtomsRow) -> Mapping[str, Any]:
        """Whatever could be a label, in eV and Å."""
        others = ChainMap(row.data, row.key_value_pairs)
        converted = {
            key: np.asarray(others[key], np.float64) * self._units[key]
            for key in self._units
            if others.get(key) is not None
        }
        results = {key: row.get(key) for key in RESULTS if row.get(key) is not None}
        return ChainMap(converted, results, others)

    def _shift(self, numbers: np.ndarray) -> float:
        """What turns the stored energy of a structure into the wanted one, eV."""
        if self._said in (None, self._reference):
            return 0.0
        return self._sum_of_atoms(numbers) * (1.0 if self._reference == "total" else -1.0)

    def _sum_of_atoms(self, numbers: np.ndarray) -> float:
        assert self._atoms is not None
        factor = self._units.get(str(self._keys.energy), 1.0)
        return float(self._atoms[numbers].sum()) * factor

    def _reference_in_file(self) -> EnergyReference | None:
        """What the metadata say, or what follows from the atoms in them.

        A total energy differs from the sum of its atoms by a few per cent.
        """
        said = reference_in(self._connection().metadata)
        if said or self._atoms is None or not self._atoms.any():
            return said
        row = self._row(0)
        energy = self._values(row).get(str(self._keys.energy))
        if energy is None:
            return None
        size = abs(float(np.squeeze(energy)))
        return "atomisation" if size < abs(self._sum_of_atoms(row.numbers)) / 2 else "total"

    def _keys_of(self, index: int) -> set[str]:
        return available(self._values(self._row(index)))


def _require_ase(path: Path) -> None:
    """Fail for another kind of file, in which ASE would create its tables."""
    require_file(path)
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        with closing(connection):
            connection.execute("SELECT id, natoms FROM systems LIMIT 1")
    except sqlite3.Error as error:
        raise MlipError(
            f"{path} cannot be read as an ASE database ({error}); copy or make it again."
        ) from None


def _bare_structure(row: AtomsRow, length: float, name: str) -> Structure:
    """Without labels; `length` converts to Å."""
    numbers = np.asarray(row.numbers, np.int32)
    pbc = np.asarray(row.pbc, bool)
    cell = np.asarray(row.cell, np.float64) * length if pbc.any() else np.zeros((3, 3))
    tags = row.get("tags")
    others = ChainMap(row.data, row.key_value_pairs)
    return Structure(
        numbers=numbers,
        positions=np.asarray(row.positions, np.float64) * length,
        cell=cell,
        pbc=pbc,
        charge=float(others.get("charge") or row.get("charge") or 0.0),
        fixed=fixed_mask(as_dicts(row.constraints), len(numbers), name),
        tags=None if tags is None else np.asarray(tags, np.int32),
        identifier=name,
        group=str(others.get("config_type", "")),
    )
