"""ASE-LMDB (`.aselmdb`): rows of an ASE database as zlib-compressed JSON (OC25, OMol25, OMat24)."""

from __future__ import annotations

import json
import re
import zlib
from collections import ChainMap
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import Any

import numpy as np

from mlip.data.sources.cache import cached_index
from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import LabelKeys, fixed_mask, read_labels
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.source import BadRecordError, EnergyReference, decoding, reference_in
from mlip.data.structure import Structure
from mlip.errors import MlipError

NEXT_ID, DELETED_IDS, METADATA = b"nextid", b"deleted_ids", b"metadata"
RESULTS = frozenset(("energy", "free_energy", "forces", "stress"))  # of a calculator
BEGINNING = 4096  # characters of a row, in which the numbers of some hundred atoms stand
NUMBERS_FIRST = re.compile(r'\s*\{\s*"numbers":\s*')
NUMBERS = re.compile(r'"numbers":\s*')
DECODER = json.JSONDecoder()


class AseLmdbSource(LabelledFile):
    """The rows of an ASE-LMDB file, by ascending id; deleted ids are passed over.

    Labels are looked up among the calculator's results, the key-value pairs and the data of a
    row. Energies and lengths are eV and Å, as everywhere in ASE.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from, where the metadata do not say.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the file cannot be read, holds other than rows, or none of some rows has a
            label key.
    """

    def _prepare(self) -> None:
        if not len(self):
            raise MlipError(f"{self.path} holds no row; download or make it again.")

    @cached_property
    def _file(self) -> LmdbFile:
        return LmdbFile(self.path)

    @cached_property
    def _ids(self) -> Sequence[int] | np.ndarray:
        return _row_ids(self._file)

    def __len__(self) -> int:
        return len(self._ids)

    def _reading_in_order(self) -> AbstractContextManager[None]:
        return self._file.reading_in_order()

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{self._ids[index]}"

    def num_atoms(self, index: int) -> int:
        return len(self.atomic_numbers(index))

    def atomic_numbers(self, index: int) -> np.ndarray:
        return _numbers(self._row_data(index), self.identifier(index))

    def sizes(self) -> np.ndarray:
        return cached_index(self.path, "sizes", self._count_atoms)

    def trajectory(self, index: int) -> str:
        row = _decode(self._row_data(index), self.identifier(index))
        return str(_extra(row).get("sid", self.identifier(index)))

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        row = _decode(self._row_data(index), name)
        with decoding(name):
            return _structure(row, self._keys, name)

    def _reference_in_file(self) -> EnergyReference | None:
        data = self._file.get(METADATA)
        if data is not None:
            with suppress(AttributeError, ValueError, zlib.error):  # of another form
                return reference_in(json.loads(zlib.decompress(data)))
        return None

    def _keys_of(self, index: int) -> set[str]:
        row = _decode(self._row_data(index), self.identifier(index))
        with decoding(self.identifier(index)):
            return {*RESULTS.intersection(row), *_extra(row)}

    def _row_data(self, index: int) -> bytes:
        data = self._file.get(b"%d" % self._ids[index])
        if data is None:
            raise BadRecordError(self.identifier(index), "the row is missing; copy the file again.")
        return data

    def _count_atoms(self) -> np.ndarray:
        """In the order of the file, which reads a large one at once."""
        ids = np.asarray(self._ids)
        sizes = np.zeros(len(ids), np.int32)
        for key, data in self._file.items():
            if key.isdigit():
                index = int(np.searchsorted(ids, int(key)))
                if index < len(ids) and ids[index] == int(key):
                    with suppress(BadRecordError):
                        sizes[index] = len(_numbers(data, self.identifier(index)))
        return sizes


def _row_ids(file: LmdbFile) -> Sequence[int] | np.ndarray:
    """Ids of the rows, ascending: those given out and not deleted, or all keys that are numbers."""
    next_id, deleted = file.get(NEXT_ID), file.get(DELETED_IDS)
    if next_id is None:
        raise MlipError(
            f"{file.path} has no key 'nextid', so it is no ASE-LMDB; name its format with the "
            "option format."
        )
    try:
        last = int(json.loads(zlib.decompress(next_id))) - 1
        gone = sorted(json.loads(zlib.decompress(deleted))) if deleted else []
    except (ValueError, TypeError, zlib.error) as error:
        raise MlipError(f"{file.path}: 'nextid' or 'deleted_ids' is damaged ({error}).") from error
    others = sum(file.get(key) is not None for key in (NEXT_ID, DELETED_IDS, METADATA))
    rows = file.entries - others
    if not gone and rows == last:
        return range(1, last + 1)
    ids = np.setdiff1d(np.arange(1, last + 1), np.asarray(gone, np.int64), assume_unique=True)
    if len(ids) == rows:
        return ids
    return np.array(sorted(int(key) for key in file if key.isdigit()), np.int64)


def _decode(data: bytes, name: str) -> dict[str, Any]:
    with decoding(name):
        row = json.loads(zlib.decompress(data))
    if not isinstance(row, dict):
        raise BadRecordError(name, f"the record is a {type(row).__name__}, expected an ASE row.")
    return row


def _numbers(data: bytes, name: str) -> np.ndarray:
    """The atomic numbers alone; mostly they come first, and the rest is not even decompressed."""
    with decoding(name):
        beginning = zlib.decompressobj().decompress(data, BEGINNING).decode(errors="ignore")
        if first := NUMBERS_FIRST.match(beginning):
            with suppress(json.JSONDecodeError):  # they reach further
                return _as_numbers(beginning, first.end())
        text = zlib.decompress(data).decode()
        places = [match.end() for match in NUMBERS.finditer(text)]
        if len(places) == 1:
            return _as_numbers(text, places[0])
        return np.asarray(_plain(json.loads(text)["numbers"]), np.int32)


def _as_numbers(text: str, start: int) -> np.ndarray:
    """The atomic numbers that begin at some place of a row."""
    numbers, _ = DECODER.raw_decode(text, start)
    return np.asarray(_plain(numbers), np.int32)


def _plain(value: Any) -> Any:
    """A value of a row, with an array in either of its encodings as an array."""
    if isinstance(value, dict):
        if "__ndarray__" in value:
            shape, dtype, flat = value["__ndarray__"]
            return np.array(flat, dtype).reshape(shape)
        if "__ase_objtype__" in value:  # a cell
            return _plain(value["array"])
    if isinstance(value, list):
        return np.array(value)
    return value


def _extra(row: dict[str, Any]) -> ChainMap[str, Any]:
    """Key-value pairs and data of a row, either of which may be JSON in a string."""
    maps = []
    for part in ("key_value_pairs", "data"):
        value = row.get(part) or {}
        maps.append(json.loads(value) if isinstance(value, str) else value)
    return ChainMap(*maps)


def _structure(row: dict[str, Any], keys: LabelKeys, name: str) -> Structure:
    numbers = np.asarray(_plain(row["numbers"]), np.int32)
    pbc = np.asarray(_plain(row.get("pbc", [False] * 3)), bool)
    cell = np.asarray(_plain(row.get("cell", np.zeros((3, 3)))), np.float64)
    tags = row.get("tags")
    values = ChainMap(row, _extra(row))
    labels = {key: _plain(values.get(key)) for key in keys.given}
    return Structure(
        numbers=numbers,
        positions=np.asarray(_plain(row["positions"]), np.float64),
        cell=cell if pbc.any() else np.zeros((3, 3)),
        pbc=pbc,
        **read_labels(labels, keys, name, len(numbers), cell, pbc),
        charge=float(values.get("charge") or 0.0),
        fixed=fixed_mask(_constraints(row.get("constraints")), len(numbers), name),
        tags=None if tags is None else np.asarray(_plain(tags), np.int32),
        identifier=name,
        group=str(values.get("config_type", "")),
    )


def _constraints(constraints: Any) -> list[dict[str, Any]]:
    """The constraints of a row, as ASE writes them."""
    if isinstance(constraints, str):
        constraints = json.loads(constraints)
    return [
        {
            "name": one["name"],
            "kwargs": {key: _plain(value) for key, value in one["kwargs"].items()},
        }
        for one in constraints or ()
    ]
