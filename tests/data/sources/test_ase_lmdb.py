import json
import pickle
import zlib

import numpy as np
import pytest
from ase.io import read

from mlip.data.sources.ase_lmdb import AseLmdbSource
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import open_source
from tests.data.sources.written import ase_lmdb, ase_row, write_lmdb


@pytest.mark.parametrize("nested", [False, True])
def test_both_encodings_of_arrays(tmp_path, nested):
    source = open_source(ase_lmdb(tmp_path / "a.aselmdb", {1: ase_row(2, nested)}))
    (structure,) = source
    np.testing.assert_array_equal(structure.numbers, [29, 29])
    np.testing.assert_array_equal(structure.positions, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(structure.cell, np.diag([4.0, 5.0, 6.0]))
    assert structure.pbc.all()
    assert structure.energy == -3.0
    np.testing.assert_array_equal(structure.forces, np.arange(6.0).reshape(2, 3) / 10)
    np.testing.assert_array_equal(structure.stress[0], [1.0, 0.1, 0.2])
    np.testing.assert_array_equal(structure.fixed, [True, False])
    np.testing.assert_array_equal(structure.tags, [0, 1])
    assert source.num_atoms(0) == 2


def test_deleted_ids_are_passed_over(tmp_path):
    rows = {number: ase_row(number) for number in (1, 3, 10, 12)}
    source = AseLmdbSource(ase_lmdb(tmp_path / "a.aselmdb", rows, deleted=[2, *range(4, 10), 11]))
    assert [len(structure) for structure in source] == [1, 3, 10, 12]
    assert source.identifier(2) == "a.aselmdb#10"
    np.testing.assert_array_equal(source.sizes(), [1, 3, 10, 12])


def test_deleted_without_a_record_of_it(tmp_path):
    entries = {b"3": ase_row(3), b"10": ase_row(10), b"nextid": zlib.compress(b"12")}
    source = AseLmdbSource(write_lmdb(tmp_path / "a.aselmdb", entries))
    assert [source.identifier(i) for i in range(len(source))] == ["a.aselmdb#3", "a.aselmdb#10"]


def test_labels_in_the_data_of_a_row(tmp_path):
    row = ase_row(1, data=json.dumps({"sid": 9, "dft_energy": -7.5, "charge": -1}), cell=None)
    row = json.loads(zlib.decompress(row))
    row["cell"] = {"array": [[4, 0, 0], [0, 5, 0], [0, 0, 6]], "__ase_objtype__": "cell"}
    path = ase_lmdb(tmp_path / "a.aselmdb", {1: zlib.compress(json.dumps(row).encode())})
    source = AseLmdbSource(path, keys=LabelKeys(energy="dft_energy", forces=None, stress=None))
    assert source[0].energy == -7.5
    assert source[0].forces is None
    assert source[0].charge == -1.0
    assert source[0].cell[2, 2] == 6.0
    assert source.trajectory(0) == "9"


def test_a_folder_of_files_and_pickling(tmp_path):
    for shard in range(3):
        ase_lmdb(tmp_path / f"part{shard}.aselmdb", {1: ase_row(1 + shard), 2: ase_row(5)})
    source = pickle.loads(pickle.dumps(open_source(tmp_path)))
    assert [len(structure) for structure in source] == [1, 5, 2, 5, 3, 5]
    assert source.identifier(4) == "part2.aselmdb#1"


def test_shared_oc20(shared):
    """Beside ASE's reading of the same frames from the extended XYZ they were made from."""
    source = open_source(shared / "data" / "oc20" / "s2ef_60.aselmdb")
    chosen = read(shared / "data" / "oc20" / "0.extxyz.xz", ":40", format="extxyz")
    assert len(source) == 60
    by_energy = {frame.calc.results["energy"]: frame for frame in chosen}
    compared = 0
    for structure in source:
        frame = by_energy.get(structure.energy)
        if frame is not None:
            compared += 1
            np.testing.assert_array_equal(structure.numbers, frame.numbers)
            np.testing.assert_allclose(structure.positions, frame.positions, atol=1e-8)
            np.testing.assert_allclose(structure.forces, frame.calc.results["forces"], atol=1e-8)
            fixed = np.zeros(len(frame), bool)
            fixed[frame.constraints[0].index] = True
            np.testing.assert_array_equal(structure.fixed, fixed)
            assert np.abs(structure.forces[fixed]).max() > 0
    assert compared >= 4
