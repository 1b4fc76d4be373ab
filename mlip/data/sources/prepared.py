"""Prepared data: one LMDB of binary records in eV and Å, made from any other source.

Keys, in the order of the file: `about` and `progress`, JSON about the whole; `atoms` and a number,
the sizes of the records from that number on, int32; `record` and a number, a record. Numbers are
eight bytes, big-endian, so that records follow each other on disk. A record is a header, three
texts and arrays, all little-endian. Coordinates and forces that single precision holds exactly are
stored in it.
"""

from __future__ import annotations

import json
import struct
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlip.data.sources.cache import cached_index
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.source import (
    BadRecordError,
    EnergyReference,
    Source,
    agreed_reference,
    decoding,
)
from mlip.data.structure import Structure
from mlip.data.tally import Tally
from mlip.errors import MlipError

ABOUT, PROGRESS, ATOMS, RECORD = b"about", b"progress", b"atoms", b"record"
FORMAT = 1
HEADER = struct.Struct("<IHHHHdddd")  # atoms, what is there, lengths of the texts, numbers


# What a record has, and how: bits of one number.
ENERGY, FORCES, STRESS, FIXED, TAGS, CELL, SINGLE_POSITIONS, SINGLE_FORCES, *PBC = (
    1 << bit for bit in range(11)
)


class PreparedSource(Source):
    """The records of a prepared file, with the trajectories of the source that it was made from.

    Args:
        path: the LMDB.
        keys: a label whose key is null is not read; their names mean nothing here.
        energy_reference: what the energies count from, where the file does not say.

    Raises:
        MlipError: if the file cannot be read, is not complete or of a later version, or has
            energies of another kind.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: LabelKeys | None = None,
        energy_reference: EnergyReference | None = None,
    ) -> None:
        self.path = path
        keys = keys or LabelKeys()
        self._dropped: dict[str, Any] = {
            label: None for label in ("energy", "forces", "stress") if getattr(keys, label) is None
        }
        self.about = read_json(LmdbFile(path), ABOUT)
        self.progress = read_json(LmdbFile(path), PROGRESS)
        if self.about.get("format") != FORMAT:
            raise MlipError(
                f"{path} was prepared by another version (format {self.about.get('format')}, "
                f"expected {FORMAT}); prepare the data again."
            )
        if not self.progress.get("complete"):
            raise MlipError(
                f"{path} is not complete; the mlip data prepare command that began it goes on."
            )
        found = self.about["energy_reference"]
        self._reference = agreed_reference(path, found, energy_reference)

    @cached_property
    def _file(self) -> LmdbFile:
        return LmdbFile(self.path)

    def _reading_in_order(self) -> AbstractContextManager[None]:
        return self._file.reading_in_order()

    @property
    def energy_reference(self) -> EnergyReference:
        return self._reference

    def tally(self) -> Tally | None:
        sums = Tally.from_json(self.progress["tally"])
        return replace(sums, energies=0) if "energy" in self._dropped else sums

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.about["notes"])

    def __len__(self) -> int:
        return int(self.progress["records"])

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"

    def num_atoms(self, index: int) -> int:
        data = self._data(index)
        with decoding(self.identifier(index)):
            return int(HEADER.unpack_from(data)[0])

    def atomic_numbers(self, index: int) -> np.ndarray:
        data = self._data(index)
        with decoding(self.identifier(index)):
            count, _, *lengths, _, _, _, _ = HEADER.unpack_from(data)
            return np.frombuffer(data, "u1", count, HEADER.size + sum(lengths)).astype(np.int32)

    def sizes(self) -> np.ndarray:
        return cached_index(self.path, "sizes", lambda: read_sizes(self._file))

    def trajectory(self, index: int) -> str:
        data = self._data(index)
        with decoding(self.identifier(index)):
            return _texts(data)[0] or self.identifier(index)

    def __getitem__(self, index: int) -> Structure:
        data = self._data(index)
        name = self.identifier(index)
        with decoding(name):
            structure = decode(data, name)
            return replace(structure, **self._dropped) if self._dropped else structure

    def _data(self, index: int) -> bytes:
        data = self._file.get(record_key(index))
        if data is None:
            raise BadRecordError(self.identifier(index), "it is missing; prepare the data again.")
        return data


def record_key(number: int) -> bytes:
    """Key of a record."""
    return RECORD + number.to_bytes(8, "big")


def atoms_key(number: int) -> bytes:
    """Key of the sizes of the records from a number on."""
    return ATOMS + number.to_bytes(8, "big")


def read_sizes(file: LmdbFile) -> np.ndarray:
    """Sizes of all records, int32."""
    blocks = [np.frombuffer(data, "<i4") for data in file.values(ATOMS)]
    return np.concatenate([np.zeros(0, np.int32), *blocks]).astype(np.int32)


def read_json(file: LmdbFile, key: bytes) -> dict[str, Any]:
    """An entry about the whole file.

    Raises:
        MlipError: if it is not there.
    """
    try:
        content = json.loads(file.get(key) or b"")
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
    except ValueError as error:
        raise MlipError(
            f"{file.path}: its entry {key.decode()!r} is missing or damaged ({error}), so it is "
            "no file of prepared data, or not a whole one; copy or prepare it again."
        ) from None
    return content


def encode(structure: Structure, trajectory: str | None) -> bytes:
    """The record of a structure.

    Args:
        structure: with all its labels.
        trajectory: what it must not be split from; None if it stands alone.
    """
    has = sum(flag for flag, periodic in zip(PBC, structure.pbc, strict=True) if periodic)
    arrays = [structure.numbers.astype("u1")]

    def add(flag: int, array: np.ndarray | None, kind: str, single: int = 0) -> None:
        nonlocal has
        if array is None:
            return
        has |= flag
        if single and np.array_equal(array.astype("<f4"), array):
            has |= single
            kind = "<f4"
        arrays.append(array.astype(kind))

    add(0, structure.positions, "<f8", SINGLE_POSITIONS)
    add(FORCES, structure.forces, "<f8", SINGLE_FORCES)
    add(CELL, structure.cell if structure.cell.any() else None, "<f8")
    add(STRESS, structure.stress, "<f8")
    add(FIXED, structure.fixed, "u1")
    add(TAGS, structure.tags, "<i4")
    if structure.energy is not None:
        has |= ENERGY
    texts = [t.encode() for t in (trajectory or "", structure.group, structure.identifier)]
    header = HEADER.pack(
        len(structure), has, *map(len, texts), structure.energy or 0.0, structure.charge,
        structure.spin, structure.weight,
    )  # fmt: skip
    return b"".join([header, *texts, *(array.tobytes() for array in arrays)])


def decode(data: bytes, name: str) -> Structure:
    """The structure of a record; its name is followed by that of its origin.

    Raises:
        ValueError: for a record of another length, or the like; see `decoding`.
    """
    count, has, *lengths, energy, charge, spin, weight = HEADER.unpack_from(data)
    _, group, origin = _texts(data)
    offset = HEADER.size + sum(lengths)

    def take(flag: int, kind: str, *shape: int) -> np.ndarray | None:
        nonlocal offset
        if not flag:
            return None
        array = np.frombuffer(data, kind, int(np.prod(shape)), offset).reshape(shape)
        offset += array.nbytes
        return array

    numbers = take(1, "u1", count)
    positions = take(1, "<f4" if has & SINGLE_POSITIONS else "<f8", count, 3)
    forces = take(has & FORCES, "<f4" if has & SINGLE_FORCES else "<f8", count, 3)
    cell = take(has & CELL, "<f8", 3, 3)
    stress = take(has & STRESS, "<f8", 3, 3)
    fixed = take(has & FIXED, "u1", count)
    tags = take(has & TAGS, "<i4", count)
    if offset != len(data):
        raise ValueError(f"{len(data)} bytes, expected {offset}")
    assert numbers is not None
    assert positions is not None
    return Structure(
        numbers=numbers.astype(np.int32),
        positions=positions.astype(np.float64),
        cell=np.zeros((3, 3)) if cell is None else cell.astype(np.float64),
        pbc=np.array([bool(has & flag) for flag in PBC]),
        energy=energy if has & ENERGY else None,
        forces=None if forces is None else forces.astype(np.float64),
        stress=None if stress is None else stress.astype(np.float64),
        charge=charge,
        spin=spin,
        fixed=None if fixed is None else fixed.astype(bool),
        weight=weight,
        identifier=f"{name} ({origin})",
        group=group,
        tags=None if tags is None else tags.astype(np.int32),
    )


def _texts(data: bytes) -> tuple[str, str, str]:
    """Trajectory, group and origin."""
    _, _, *lengths, _, _, _, _ = HEADER.unpack_from(data)
    found, offset = [], HEADER.size
    for length in lengths:
        found.append(data[offset : offset + length].decode())
        offset += length
    return found[0], found[1], found[2]
