"""What every format does without reading labels."""

import gzip
import json
import lzma
import pickle
import zlib

import h5py
import numpy as np
import pytest
from ase.io import write

from mlip.data.files import in_order
from mlip.data.frames import Part
from mlip.data.prepare import prepare
from mlip.data.sources import lmdb_file
from mlip.data.sources.concatenation import Concatenation
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.lmdb_file import _open as open_file
from mlip.data.sources.registry import FORMATS, SourceSettings, open_source
from mlip.data.sources.source import BadRecordError
from tests.data.sources.written import (
    FakeTorch,
    ase_lmdb,
    ase_row,
    graph_fields,
    molecule,
    relaxation_step,
    write_lmdb,
)

WATER, PAIR = [8, 1, 1], [1, 8]


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        for index, numbers in enumerate((WATER, PAIR)):
            group = file.create_group(f"config_batch_0/config_{index}")
            group["atomic_numbers"], group["positions"] = numbers, np.eye(3)[: len(numbers)]
            group["energy"], group["forces"] = -1.0, np.zeros((len(numbers), 3))


@pytest.fixture
def files(tmp_path, monkeypatch, make_water):
    """Two records in every format: water and hydroxyl, where its two records may differ."""
    torch = FakeTorch(monkeypatch)
    water = make_water()
    frames = [water, make_water()[[1, 0]]]
    frames[1].calc = None
    frames[1].info["energy"], frames[1].arrays["forces"] = -1.0, np.zeros((2, 3))
    graphs = [graph_fields(), graph_fields()]
    for graph, numbers in zip(graphs, (WATER, PAIR), strict=True):
        count = len(numbers)
        graph |= {"atomic_numbers": np.array(numbers, np.float32), "natoms": count}
        graph |= {name: graph[name][:count] for name in ("pos", "forces", "tags", "fixed")}
    pickled = {b"%d" % index: torch.graph(**graph) for index, graph in enumerate(graphs)}
    plain = {"__ndarray__": [[3], "int64", WATER]}
    rows = {1: ase_row(3, numbers=plain), 2: ase_row(2, nested=True, numbers=PAIR)}
    write(tmp_path / "a.xyz", frames, format="extxyz")
    text = (tmp_path / "a.xyz").read_bytes()
    (tmp_path / "0.extxyz.xz").write_bytes(lzma.compress(text))
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(b"random1,frame0,-1\nrandom1,frame1,-1"))
    (tmp_path / "b.xyz.gz").write_bytes(gzip.compress(text))
    write(tmp_path / "a.traj", [water, water])
    write(tmp_path / "a.db", [water, water])
    write_hdf5(tmp_path / "a.h5")
    arrays = {"z": np.array(WATER), "R": np.zeros((2, 3, 3)), "E": np.zeros(2)}
    np.savez(tmp_path / "a.npz", F=np.zeros((2, 3, 3)), **arrays)
    objects = [torch.graph_object(**graph) for graph in graphs]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(objects))
    molecules = {b"%09d" % cid: molecule(DFT_1st=[relaxation_step()]) for cid in (1, 2)}
    output = tmp_path / "prepared.lmdb"
    prepare(str(tmp_path / "a.xyz"), output, SourceSettings(), cutoff=None, workers=0)
    return {
        "extxyz": tmp_path / "b.xyz.gz",
        "s2ef": tmp_path / "0.extxyz.xz",
        "graph_lmdb": write_lmdb(tmp_path / "g.lmdb", pickled),
        "graph_list": tmp_path / "a.pkl",
        "ase_lmdb": ase_lmdb(tmp_path / "a.aselmdb", rows),
        "pubchemqcr": write_lmdb(tmp_path / "Data01.lmdb", molecules),
        "ase_db": tmp_path / "a.db",
        "hdf5": tmp_path / "a.h5",
        "md17": tmp_path / "a.npz",
        "prepared": output,
        "ase": tmp_path / "a.traj",
    }


def test_atomic_numbers_in_every_format(files):
    assert files.keys() == FORMATS.keys()
    same = {"pubchemqcr", "ase_db", "md17", "ase"}  # their two records are of one molecule
    for name, path in files.items():
        source = open_source(path)
        found = [source.atomic_numbers(index) for index in range(2)]
        assert [numbers.tolist() for numbers in found] == [WATER, WATER if name in same else PAIR]
        assert {numbers.dtype for numbers in found} == {np.dtype(np.int32)}, name
        for index in range(2):
            np.testing.assert_array_equal(found[index], source[index].numbers)


@pytest.mark.parametrize("name", ["graph_lmdb", "ase_lmdb", "pubchemqcr", "prepared"])
def test_an_lmdb_is_read_ahead_in_order_and_not_by_index(files, tmp_path, monkeypatch, name):
    path, opened = files[name], []
    monkeypatch.setattr(lmdb_file, "_open", lambda *how: opened.append(how[1]) or open_file(*how))

    def joined():
        source = open_source(path)
        both = Concatenation([source, source])
        return [record.energy for record in in_order(Part(both, range(1, 3)))]

    energies = [structure.energy for structure in open_source(path)]
    assert opened[-1]
    assert joined() == energies[::-1]
    assert opened[-1]
    assert open_source(path)[1].energy == energies[1]
    assert not opened[-1]
    assert [record.energy for record in in_order(Part(open_source(path), range(1)))] == energies[:1]
    assert opened[-1]
    prepare(str(path), tmp_path / "again.lmdb", SourceSettings(), cutoff=None, workers=0)
    assert opened[-1]


def test_labels_are_not_looked_at(tmp_path):
    """A record whose label is damaged still says what it is made of."""
    rows = {1: ase_row(3, energy="?"), 2: ase_row(2)}
    source = open_source(ase_lmdb(tmp_path / "a.aselmdb", rows))
    with pytest.raises(BadRecordError):
        source[0]
    np.testing.assert_array_equal(source.atomic_numbers(0), [29, 29, 29])


def test_numbers_that_reach_beyond_the_beginning_of_a_row(tmp_path):
    source = open_source(ase_lmdb(tmp_path / "a.aselmdb", {1: ase_row(2000), 2: ase_row(2)}))
    np.testing.assert_array_equal(source.sizes(), [2000, 2])
    np.testing.assert_array_equal(source.atomic_numbers(0), source[0].numbers)


def test_numbers_of_something_else_in_a_row(tmp_path):
    row = {"data": {"numbers": [1, 2]}} | json.loads(zlib.decompress(ase_row(3)))
    rows = {1: zlib.compress(json.dumps(row).encode()), 2: ase_row(2, data={"numbers": [9]})}
    source = open_source(ase_lmdb(tmp_path / "a.aselmdb", rows))
    np.testing.assert_array_equal(source.sizes(), [3, 2])


@pytest.mark.parametrize(
    ("properties", "atoms"),
    [
        ("species:S:1:pos:R:3", ["O 0 0 0", "h 0 0 1"]),
        ("pos:R:3:species:S:1", ["0 0 0 O", "0 0 1 H"]),
        ("pos:R:3:Z:I:1", ["0 0 0 8", "0 0 1 1"]),
    ],
)
def test_columns_of_extended_xyz_in_any_order(tmp_path, properties, atoms):
    lines = ["2", f"Properties={properties} energy=-1.0", *atoms]
    (tmp_path / "a.xyz").write_text("\n".join(lines) + "\n")
    source = open_source(tmp_path / "a.xyz", SourceSettings(keys=LabelKeys(forces=None)))
    np.testing.assert_array_equal(source.atomic_numbers(0), [8, 1])
    np.testing.assert_array_equal(source[0].numbers, [8, 1])
