"""Pickled torch_geometric graphs: the LMDB form of OC20 and OC22 S2EF, and pickled lists."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import Any

import numpy as np

from mlip.data.sources.cache import cached_index
from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import LabelKeys, available, read_labels
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.restricted_pickle import Graph, graph_fields, loads
from mlip.data.sources.source import BadRecordError, EnergyReference, decoding
from mlip.data.structure import Structure
from mlip.errors import MlipError

LENGTH = b"length"
OLD_NAMES = {"energy": "y", "forces": "force"}  # of labels, in graphs of the first generation


class GraphSource(LabelledFile):
    """Graphs by index, of either generation of torch_geometric; subclasses say where they stand.

    Labels are `energy` and `forces`, or `y` and `force` in older graphs. A graph with a cell and
    without `pbc` is periodic in three directions.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from; None leaves it unstated, except for OC22,
            which holds total energies.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the file cannot be read, a graph of OC22 is said to hold other than total
            energies, or none of some graphs has a label key.
    """

    def _reference_in_file(self) -> EnergyReference | None:
        for index in range(len(self)):
            with suppress(BadRecordError):  # the first that can be read speaks for all
                return "total" if "oc22" in self._fields(index) else None
        return None

    def num_atoms(self, index: int) -> int:
        name = self.identifier(index)
        fields = self._fields(index)
        with decoding(name):
            return _num_atoms(fields)

    def atomic_numbers(self, index: int) -> np.ndarray:
        name = self.identifier(index)
        fields = self._fields(index)
        with decoding(name):
            return _numbers(fields)

    def trajectory(self, index: int) -> str:
        fields = self._fields(index)
        with decoding(self.identifier(index)):
            if fields.get("sid") is None:
                return self.identifier(index)
            return str(int(np.asarray(fields["sid"]).squeeze()))

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        fields = self._fields(index)
        with decoding(name):
            return _structure(fields, self._keys, name)

    def _keys_of(self, index: int) -> set[str]:
        return available(_with_new_names(self._fields(index)))

    def _fields(self, index: int) -> Mapping[str, Any]:
        """What the graph of a record holds."""
        raise NotImplementedError


class GraphLmdbSource(GraphSource):
    """The graphs of an LMDB with the keys 0, 1, 2, … and perhaps `length`."""

    @cached_property
    def _file(self) -> LmdbFile:
        return LmdbFile(self.path)

    @cached_property
    def _length(self) -> int:
        return graph_count(self._file)

    def __len__(self) -> int:
        return self._length

    def _reading_in_order(self) -> AbstractContextManager[None]:
        return self._file.reading_in_order()

    def _fields(self, index: int) -> Mapping[str, Any]:
        name = self.identifier(index)
        data = self._file.get(b"%d" % index)
        if data is None:
            raise BadRecordError(name, f"no record with the key {index}; copy the file again.")
        return _decode(data, name)

    def sizes(self) -> np.ndarray:
        return cached_index(self.path, "sizes", self._count_atoms)

    def _count_atoms(self) -> np.ndarray:
        """In the order of the file, which reads a large one at once."""
        sizes = np.zeros(len(self), np.int32)
        for key, data in self._file.items():
            if key.isdigit() and int(key) < len(self):
                name = self.identifier(int(key))
                with suppress(BadRecordError), decoding(name):
                    sizes[int(key)] = _num_atoms(_decode(data, name))
        return sizes


class GraphListSource(GraphSource):
    """The graphs of a pickled list, read whole."""

    @cached_property
    def _graphs(self) -> list[Any]:
        name = self.path.name
        try:
            with decoding(name):
                graphs = loads(self.path.read_bytes(), name)
        except BadRecordError as error:
            raise MlipError(str(error)) from error
        if not isinstance(graphs, list) or not graphs:
            raise MlipError(f"{self.path}: expected a pickled list of graphs.")
        return graphs

    def __len__(self) -> int:
        return len(self._graphs)

    def _fields(self, index: int) -> Mapping[str, Any]:
        return _graph_fields(self._graphs[index], self.identifier(index))


def graph_count(file: LmdbFile) -> int:
    """Number of graphs in an LMDB.

    Raises:
        MlipError: if its keys are not 0, 1, 2, …, or its `length` is not theirs.
    """
    if file.get(b"0") is None:
        first = next(iter(file))
        raise MlipError(
            f"{file.path}: the first key is {first[:20]!r}, expected the keys 0, 1, 2, … of "
            "pickled graphs; name its format with the option format."
        )
    stored = file.get(LENGTH)
    if stored is None:
        return file.entries
    try:
        with decoding(file.path.name):
            length = int(loads(stored, file.path.name))
    except BadRecordError as error:
        raise MlipError(f"{file.path}: the entry 'length' is damaged ({error.fault})") from error
    if length != file.entries - 1:
        raise MlipError(
            f"{file.path}: its length is {length}, but it has {file.entries - 1} records; "
            "copy or download it again."
        )
    return length


def _decode(data: bytes, name: str) -> Mapping[str, Any]:
    with decoding(name):
        return _graph_fields(loads(data, name), name)


def _graph_fields(graph: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(graph, Graph):
        raise BadRecordError(name, f"the record is a {type(graph).__name__}, expected a graph.")
    return graph_fields(graph)


def _num_atoms(fields: Mapping[str, Any]) -> int:
    return int(np.shape(fields["pos"])[0])  # the shape of a tensor is known without its numbers


def _numbers(fields: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(fields["atomic_numbers"], np.int32).ravel()


def _with_new_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a graph holds, without what is empty; the labels under their new names, too."""
    found = {name: value for name, value in fields.items() if value is not None}
    for new, old in OLD_NAMES.items():
        if new not in found and old in found:
            found[new] = found[old]
    return found


def _structure(fields: Mapping[str, Any], keys: LabelKeys, name: str) -> Structure:
    numbers = _numbers(fields)
    cell, pbc = _cell(fields)
    return Structure(
        numbers=numbers,
        positions=np.asarray(fields["pos"], np.float64),
        cell=cell,
        pbc=pbc,
        **read_labels(_with_new_names(fields), keys, name, len(numbers), cell, pbc),
        fixed=_per_atom(fields, "fixed", bool, len(numbers), name),
        tags=_per_atom(fields, "tags", np.int32, len(numbers), name),
        identifier=name,
    )


def _cell(fields: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    cell = fields.get("cell")
    matrix = np.zeros((3, 3)) if cell is None else np.asarray(cell, np.float64).reshape(3, 3)
    periodic = fields.get("pbc")
    pbc = np.asarray(matrix.any(axis=1) if periodic is None else periodic, bool).reshape(3)
    return (matrix if pbc.any() else np.zeros((3, 3))), pbc


def _per_atom(
    fields: Mapping[str, Any], field: str, dtype: type, count: int, name: str
) -> np.ndarray | None:
    if fields.get(field) is None:
        return None
    array: np.ndarray = np.asarray(fields[field]).astype(dtype).ravel()
    if len(array) != count:
        raise BadRecordError(name, f"{len(array)} entries in {field} for {count} atoms.")
    return array
