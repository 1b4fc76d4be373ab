"""Pickles of plain objects, tensors and graphs, read without torch and without running anything.

A pickle names the classes and functions that build its objects. Those of torch, torch_geometric
and numpy that appear in published data sets stand in the table `GLOBALS`, each with a stand-in;
every other name is refused. The layouts are those of tensors as pickle writes them (the format of
`torch.save` before version 1.6) and of `torch_geometric.data.Data` in versions 1 and 2.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

from mlip.data.sources import numpy_stand_ins
from mlip.data.sources.numpy_stand_ins import Sealed
from mlip.data.sources.source import BadRecordError

# A tensor's storage starts with three pickles: a magic number, the version of the format, and the
# system that wrote it, which is always a little-endian one of 64 bits.
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {
    "protocol_version": VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
HEADER = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, VERSION, SYSTEM))
DTYPES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("?"),
}


class Graph(metaclass=Sealed):
    """Stand-in of `torch_geometric.data.Data` and of its parts: its state, nothing else."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def graph_fields(graph: Graph) -> dict[str, Any]:
    """What a graph holds, by name; its tensors are `Tensor`."""
    store = vars(graph).get("_store")
    if isinstance(store, Graph):  # torch_geometric 2
        return dict(vars(store)["_mapping"])
    return vars(graph)  # torch_geometric 1


class Storage(metaclass=Sealed):
    """Stand-in of the storage of a tensor: its bytes as they are."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def layout(self) -> tuple[np.dtype, int]:
        """Type of the numbers, and where they start.

        Before them stand the header, their description, the keys of the storages, their count.

        Raises:
            pickle.UnpicklingError: if the layout is another.
        """
        if not self.data.startswith(HEADER):
            raise pickle.UnpicklingError("a tensor is stored in an unknown format")
        file = io.BytesIO(self.data)
        file.seek(len(HEADER))
        _, kind, _, _, count, view = _StorageUnpickler(file).load()
        dtype = DTYPES[kind]
        start = len(self.data) - count * dtype.itemsize
        stored = int.from_bytes(self.data[start - 8 : start], "little")
        if view is not None or stored != count or start < file.tell():
            raise pickle.UnpicklingError("a tensor is truncated, or a view of another")
        return dtype, start


class Tensor(metaclass=Sealed):
    """Stand-in of a tensor, decoded when its numbers are asked for.

    Args:
        storage: that holds its numbers.
        offset: of the first number in the storage.
        shape: of the tensor.
        strides: steps in the storage along each axis, in numbers.
    """

    __slots__ = ("_offset", "_storage", "_strides", "shape")

    def __init__(
        self,
        storage: Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> None:
        self._storage = storage
        self._offset = offset
        self._strides = strides
        self.shape = tuple(shape)

    def numpy(self) -> np.ndarray:
        """The numbers, in the type and order of the tensor, not to be changed.

        Raises:
            pickle.UnpicklingError: if the storage is damaged.
            ValueError, TypeError: if the storage does not hold them.
        """
        if min((self._offset, *self._strides)) < 0:
            raise pickle.UnpicklingError("a tensor reaches before its storage")
        dtype, start = self._storage.layout()
        strides = tuple(dtype.itemsize * stride for stride in self._strides)
        # numpy checks that no number lies behind the storage.
        return np.ndarray(
            self.shape, dtype, self._storage.data, start + dtype.itemsize * self._offset, strides
        )

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)


GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch.storage", "_load_from_bytes"): Storage,
    ("torch_geometric.data.data", "Data"): Graph,
    ("torch_geometric.data.data", "DataEdgeAttr"): Graph,
    ("torch_geometric.data.data", "DataTensorAttr"): Graph,
    ("torch_geometric.data.storage", "GlobalStorage"): Graph,
    **{("torch", name): name for name in DTYPES},
    **numpy_stand_ins.GLOBALS,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data))
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        try:
            return GLOBALS[module, name]
        except KeyError:
            raise BadRecordError(
                self._name,
                f"the pickle asks for {module}.{name}, which is no plain object, tensor or graph; "
                "nothing of it was run. If you trust where it comes from, write the data anew, as "
                "extended XYZ or ASE-LMDB.",
            ) from None


class _StorageUnpickler(pickle.Unpickler):
    """Unpickles what describes a storage: type, key, device, count, view."""

    def find_class(self, module: str, name: str) -> str:
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"a tensor asks for {module}.{name}; nothing of it was run")

    def persistent_load(self, description: Any) -> Any:
        return description[:1] + description[1:]


def loads(data: bytes, name: str) -> Any:
    """The object of a pickle, in which `Graph` and `Tensor` stand for those of torch.

    Args:
        data: the pickle.
        name: of the record.

    Raises:
        BadRecordError: for a pickle that asks for anything else than plain objects and these.
        pickle.UnpicklingError, EOFError, …: for damaged data.
    """
    return _Unpickler(data, name).load()
