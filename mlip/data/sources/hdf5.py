"""HDF5 files as MACE preprocesses them: groups `config_batch_*` of groups `config_*`."""

from __future__ import annotations

import os
import re
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import LabelKeys, read_labels
from mlip.data.sources.source import BadRecordError, decoding, require_file
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    import h5py

STRUCTURE = {"atomic_numbers", "positions", "cell", "pbc", "weight", "config_type", "head"}
NONE = b"None"  # how an absent value is written


class Hdf5Source(LabelledFile):
    """The configurations of an HDF5 file, in the order of their batches.

    Labels stand in the group `properties` of a configuration, or in itself (older files). One
    whose weight is zero is missing: older files hold zeros in its place.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from; None leaves it unstated.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if h5py is not installed, the file cannot be read, it has another layout, or
            none of some configurations has a label key.
    """

    def _prepare(self) -> None:
        self._batches, self._ends = self._list_batches()

    @cached_property
    def _handle(self) -> dict[int, h5py.File]:
        return {}

    def _file(self) -> h5py.File:
        """The file, opened for this process."""
        process = os.getpid()
        if process not in self._handle:
            self._handle[process] = _open(self.path)
        return self._handle[process]

    def _list_batches(self) -> tuple[list[str], list[int]]:
        file = self._file()
        numbers = [int(name[13:]) for name in file if re.fullmatch(r"config_batch_\d+", name)]
        batches = [f"config_batch_{number}" for number in sorted(numbers)]
        ends = list(accumulate(len(file[batch]) for batch in batches))
        if not ends or not ends[-1]:
            raise MlipError(
                f"{self.path} has no groups config_batch_0/config_0, …; only HDF5 files in the "
                "layout of MACE's preprocessing are read."
            )
        return batches, ends

    def __len__(self) -> int:
        return self._ends[-1]

    def _group_name(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        batch = int(np.searchsorted(self._ends, index, side="right"))
        before = self._ends[batch - 1] if batch else 0
        return f"{self._batches[batch]}/config_{index - before}"

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{self._group_name(index)}"

    def num_atoms(self, index: int) -> int:
        return len(self._group(index)["atomic_numbers"])

    def atomic_numbers(self, index: int) -> np.ndarray:
        name = self.identifier(index)
        group = self._group(index)
        with decoding(name):
            return np.asarray(group["atomic_numbers"], np.int32)

    def _group(self, index: int) -> h5py.Group:
        group = self._file().get(self._group_name(index))
        if group is None or "atomic_numbers" not in group or "positions" not in group:
            raise BadRecordError(
                self.identifier(index),
                "no such group with atomic_numbers and positions; make the file again.",
            )
        return group

    def _keys_of(self, index: int) -> set[str]:
        group = self._group(index)
        properties = group.get("properties", group)
        return {key for key in properties if _value(properties, key) is not None} - STRUCTURE

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        group = self._group(index)
        with decoding(name):
            return _structure(group, self._keys, name)


def _open(path: Path) -> h5py.File:
    try:
        import h5py
    except ImportError:
        raise MlipError(
            f"{path}: reading HDF5 needs h5py; install it with pip install 'jax-mlip[hdf5]'."
        ) from None
    require_file(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise MlipError(f"{path} cannot be read as HDF5 ({error}); copy it again.") from error


def _value(group: h5py.Group, key: str) -> Any:
    """A value of a group, None if it is absent or written as such."""
    if key not in group:
        return None
    value = group[key][()]
    return None if isinstance(value, bytes) and value == NONE else value


def _structure(group: h5py.Group, keys: LabelKeys, name: str) -> Structure:
    numbers = np.asarray(group["atomic_numbers"], np.int32)
    periodic, box = _value(group, "pbc"), _value(group, "cell")
    pbc = np.zeros(3, bool) if periodic is None else np.asarray(periodic, bool)
    cell = np.asarray(box, np.float64) if pbc.any() else np.zeros((3, 3))
    weight, kind = _value(group, "weight"), _value(group, "config_type")
    return Structure(
        numbers=numbers,
        positions=np.asarray(group["positions"], np.float64),
        cell=cell,
        pbc=pbc,
        **read_labels(_values(group, keys), keys, name, len(numbers), cell, pbc),
        weight=1.0 if weight is None else float(weight),
        identifier=name,
        group="" if kind in (None, b"Default") else kind.decode(),
    )


def _values(group: h5py.Group, keys: LabelKeys) -> dict[str, Any]:
    """The labels by key; without those of weight zero."""
    properties = group.get("properties", group)
    weights = group.get("property_weights")
    found = {}
    for key in keys.given:
        weight = _value(group, f"{key}_weight") if weights is None else _value(weights, key)
        found[key] = None if weight is not None and weight == 0 else _value(properties, key)
    return found
