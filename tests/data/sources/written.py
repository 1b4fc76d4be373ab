"""Writers of formats that are only read here: small files of known content, without torch."""

import gzip
import io
import json
import pickle
import sys
import types
import zlib
from collections import OrderedDict
from pathlib import Path

import lmdb
import numpy as np
import pytest

SYSTEM = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
STORAGES = {
    "f2": "HalfStorage", "f4": "FloatStorage", "f8": "DoubleStorage", "i4": "IntStorage",
    "i8": "LongStorage", "b1": "BoolStorage",
}  # fmt: skip


def write_lmdb(path: Path, entries: dict[bytes, bytes]) -> Path:
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 26, lock=False)
    with environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    environment.close()
    return path


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class FakeTorch:
    """Names of torch and torch_geometric, so that pickles of theirs can be written without them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storages = {name: type(name, (), {}) for name in STORAGES.values()}
        self.Data, self.GlobalStorage = type("Data", (), {}), type("GlobalStorage", (), {})
        self.rebuild, self.load = (lambda *_: None), (lambda *_: None)
        members = {
            "torch": self.storages,
            "torch_geometric": {},
            "torch_geometric.data": {},
            "torch._utils": {"_rebuild_tensor_v2": self.rebuild},
            "torch.storage": {"_load_from_bytes": self.load},
            "torch_geometric.data.data": {"Data": self.Data},
            "torch_geometric.data.storage": {"GlobalStorage": self.GlobalStorage},
        }
        for name, found in members.items():
            module = types.ModuleType(name)
            for key, member in found.items():
                member.__module__, member.__qualname__ = name, key
                setattr(module, key, member)
            monkeypatch.setitem(sys.modules, name, module)

    def storage(self, flat: np.ndarray, kind: object = None) -> bytes:
        """What `torch.save` made of a storage before version 1.6; `kind` replaces its type."""
        kind = kind or self.storages[STORAGES[flat.dtype.str[1:]]]
        described = object()

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                return (
                    ("storage", kind, "7", "cpu", len(flat), None) if value is described else None
                )

        file = io.BytesIO()
        for part in (0x1950A86A20F9469CFC6C, 1001, SYSTEM):
            pickle.dump(part, file, protocol=2)
        Pickler(file, protocol=2).dump(described)
        pickle.dump(["7"], file, protocol=2)
        return file.getvalue() + len(flat).to_bytes(8, "little") + flat.tobytes()

    def tensor(self, array: np.ndarray, storage: bytes | None = None) -> Call:
        """A tensor; one that is a view of another array shares its storage, as torch does."""
        whole = array if array.base is None else array.base
        offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = Call(self.load, storage or self.storage(whole.ravel()))
        return Call(self.rebuild, stored, offset // array.itemsize, array.shape, strides, False,
                    OrderedDict())  # fmt: skip

    def graph(self, generation: int = 2, **fields: object) -> bytes:
        """A pickled graph; arrays become tensors."""
        return pickle.dumps(self.graph_object(generation, **fields), protocol=-1)

    def graph_object(self, generation: int = 2, **fields: object) -> object:
        """A graph to be pickled."""
        pickled = {
            name: self.tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in fields.items()
        }
        graph = self.Data()
        if generation == 2:
            graph._store = self.GlobalStorage()
            graph._store._mapping = pickled
            graph._store._parent = graph
        else:
            vars(graph).update(pickled, x=None, edge_attr=None)
        return graph


def graph_fields(seed: int = 0, old: bool = False) -> dict[str, object]:
    """A small slab as OC20 stores it, with the names of either age."""
    generator = np.random.default_rng(seed)
    count = 4 + seed
    labels = {
        "y" if old else "energy": -5.25 - seed,
        "force" if old else "forces": generator.normal(size=(count, 3)).astype(np.float32),
    }
    return labels | {
        "pos": generator.normal(size=(count, 3)).astype(np.float32),
        "cell": (5 * np.eye(3, dtype=np.float32))[None],
        "atomic_numbers": np.full(count, 29.0, np.float32),
        "natoms": count,
        "tags": np.arange(count) % 3,
        "fixed": np.eye(count, dtype=np.float32)[0],
        "sid": 17 + seed // 2,
        "fid": seed,
    }


def ase_row(count: int, nested: bool = False, **changes: object) -> bytes:
    """A row of an ASE-LMDB, with its arrays in one of the two encodings."""

    def array(values: np.ndarray) -> object:
        if nested:
            return values.tolist()
        return {"__ndarray__": [list(values.shape), str(values.dtype), values.ravel().tolist()]}

    row = {
        "numbers": array(np.full(count, 29)),
        "positions": array(np.arange(3.0 * count).reshape(count, 3)),
        "pbc": array(np.array([True, True, True])),
        "cell": array(np.diag([4.0, 5.0, 6.0])),
        "tags": array(np.arange(count)),
        "energy": -1.5 * count,
        "forces": array(np.arange(3.0 * count).reshape(count, 3) / 10),
        "stress": array(np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1])),
        "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [0]}}],
        "key_value_pairs": {},
        "data": {"sid": 7},
    }
    return zlib.compress(json.dumps(row | changes).encode())


def ase_lmdb(path: Path, rows: dict[int, bytes], deleted: list[int] = ()) -> Path:
    entries = {b"%d" % number: row for number, row in rows.items()}
    last = max([*rows, *deleted])
    entries[b"nextid"] = zlib.compress(b"%d" % (last + 1))
    if deleted:
        entries[b"deleted_ids"] = zlib.compress(json.dumps(list(deleted)).encode())
    return write_lmdb(path, entries)


def relaxation_step(energy: float = -76.0, **changes: object) -> dict[str, object]:
    """A step of PubChemQCR: water, with symbols in mixed case."""
    symbols, places = ("O", "h", "H"), ((0.0, 0.0, 0.1), (0.0, 0.8, -0.5), (0.0, -0.8, -0.5))
    step = {
        "coordinates": [
            {"atom": symbol, "charge": 1.0, "x": x, "y": y, "z": z}
            for symbol, (x, y, z) in zip(symbols, places, strict=True)
        ],
        "energy": energy,
        "gradient": [
            {"atom": symbol, "charge": 1.0, "dx": 0.01, "dy": -0.02, "dz": 0.03}
            for symbol in symbols
        ],
    }
    return step | changes


def molecule(**phases: object) -> bytes:
    """A record of PubChemQCR."""
    empty = dict.fromkeys(("pm3", "hf", "DFT_1st", "DFT_2nd"))
    return gzip.compress(pickle.dumps(empty | phases))
