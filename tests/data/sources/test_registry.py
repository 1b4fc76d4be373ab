"""Which format a file is opened as, and what only `open_source` and `Concatenation` do."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from mlip.data.sources.concatenation import Concatenation, shards
from mlip.data.sources.extxyz import ExtxyzSource
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import FORMATS, SourceSettings, find_format, open_source
from mlip.data.sources.source import BadRecordError
from mlip.data.sources.units import unit
from mlip.errors import MlipError
from tests.data.sources.written import ase_lmdb, ase_row, write_lmdb


def test_formats_by_name_and_content(tmp_path):
    write_lmdb(tmp_path / "graphs.lmdb", {b"0": b""})
    write_lmdb(tmp_path / "Data03.lmdb", {b"000000001": b""})
    ase_lmdb(tmp_path / "rows.lmdb", {1: ase_row(1)})
    write_lmdb(tmp_path / "ours.lmdb", {b"about": b"{}"})
    (tmp_path / "3.txt.xz").touch()
    expected = {
        "a.xyz": "extxyz", "a.extxyz.gz": "extxyz", "3.extxyz.xz": "s2ef", "4.extxyz": "extxyz",
        "graphs.lmdb": "graph_lmdb", "Data03.lmdb": "pubchemqcr", "rows.lmdb": "ase_lmdb",
        "a.aselmdb": "ase_lmdb", "a.pkl": "graph_list", "a.db": "ase_db", "a.h5": "hdf5",
        "a.npz": "md17", "ours.lmdb": "prepared", "a.traj": "ase",
    }  # fmt: skip
    assert {name: find_format(tmp_path / name) for name in expected} == expected
    assert set(expected.values()) == set(FORMATS)


def test_a_trajectory_of_ase(tmp_path, make_water):
    waters = [make_water(seed) for seed in range(3)]
    write(tmp_path / "a.traj", waters)
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.traj")))
    for structure, water in zip(source, waters, strict=True):
        assert structure.energy == water.get_potential_energy()
        np.testing.assert_array_equal(structure.forces, water.get_forces())
    assert source.identifier(2) == "a.traj#2"


def test_extxyz_by_index(waters_file):
    source = pickle.loads(pickle.dumps(open_source(waters_file)))
    from mlip.data.sources.extxyz import read_extxyz

    whole = read_extxyz(waters_file)
    assert len(source) == len(whole) == 14
    for index in (13, 0, 7):
        assert source[index].energy == whole[index].energy
        assert source[index].identifier == whole[index].identifier
    np.testing.assert_array_equal(source.sizes(), [len(structure) for structure in whole])
    assert source[0].group == "IsolatedAtom"


@pytest.mark.parametrize("ending", ["\r\n", "\n\n"])
def test_extxyz_with_other_line_ends(tmp_path, waters_file, ending):
    text = waters_file.read_text()
    frames = text.replace("\n", ending) if ending == "\r\n" else text.replace("\n3\n", "\n\n3\n")
    path = tmp_path / "b.xyz"
    path.write_bytes(frames.encode())
    np.testing.assert_array_equal(
        [s.energy for s in open_source(path)], [s.energy for s in open_source(waters_file)]
    )


def test_compressed_extxyz_is_decompressed_once(tmp_path, waters_file, cache):
    path = tmp_path / "a.xyz.gz"
    path.write_bytes(gzip.compress(waters_file.read_bytes()))
    assert open_source(path)[13].energy == open_source(waters_file)[13].energy
    (copy,) = cache.glob("*/content-*")
    before = copy.stat().st_mtime_ns
    assert len(open_source(path)) == 14
    assert copy.stat().st_mtime_ns == before


def test_an_entry_of_the_cache_follows_its_file(tmp_path, waters_file, make_water, cache):
    path = tmp_path / "a.xyz.gz"
    path.write_bytes(gzip.compress(waters_file.read_bytes()))
    assert len(open_source(path)) == 14
    write(tmp_path / "b.xyz", make_water())
    path.write_bytes(gzip.compress((tmp_path / "b.xyz").read_bytes()))
    assert len(open_source(path)) == 1
    assert len(list(cache.glob("*/content-*"))) == 1


def test_a_label_that_few_frames_have(tmp_path, make_water):
    frames = [make_water(seed) for seed in range(100)]
    frames[37].info["rare"] = -1.0
    write(tmp_path / "a.xyz", frames)
    settings = SourceSettings(keys=LabelKeys(energy="rare"))
    source = open_source(tmp_path / "a.xyz", settings)
    assert [i for i, structure in enumerate(source) if structure.energy is not None] == [37]


def test_sources_one_after_the_other(tmp_path, make_water):
    for part in range(3):
        write(tmp_path / f"{part}.xyz", [make_water(3 * part + i) for i in range(part + 1)])
    source = Concatenation([open_source(tmp_path / f"{part}.xyz") for part in range(3)])
    names = [source.identifier(index) for index in range(6)]
    assert names == ["0.xyz#0", "1.xyz#0", "1.xyz#1", "2.xyz#0", "2.xyz#1", "2.xyz#2"]
    assert [structure.identifier for structure in source] == names
    assert [source[index].identifier for index in range(6)] == names
    with pytest.raises(IndexError):
        source[6]


def test_energies_are_mixed_on_request_only(tmp_path, make_water):
    write(tmp_path / "a.xyz", make_water())
    total = ExtxyzSource(tmp_path / "a.xyz", energy_reference="total")
    unstated = ExtxyzSource(tmp_path / "a.xyz")
    with pytest.raises(MlipError, match=r"a\.xyz has total energies, a\.xyz has unstated"):
        Concatenation([total, unstated])
    referenced = ExtxyzSource(tmp_path / "a.xyz", energy_reference="referenced")
    with pytest.raises(MlipError, match=r"a\.xyz has total energies, a\.xyz has ref"):
        Concatenation([total, referenced])
    assert Concatenation([total, total]).energy_reference == "total"
    mixed = Concatenation([total, referenced], mix_energies=True)
    assert len(mixed) == 2
    assert mixed.energy_reference == "unstated"


def test_a_stream_goes_on_after_a_bad_record(tmp_path, make_water):
    path = tmp_path / "a.xyz"
    write(path, [make_water(seed) for seed in range(3)])
    lines = path.read_text().splitlines(keepends=True)
    lines[7] = lines[7].replace(lines[7].split()[1], "x")
    path.write_text("".join(lines))
    records = list(open_source(path).stream())
    assert [isinstance(record, BadRecordError) for record in records] == [False, True, False]
    assert records[1].name == "a.xyz#1"
    with pytest.raises(BadRecordError, match=r"a\.xyz#1"):
        list(open_source(path))


def test_shards_by_number_and_name(tmp_path):
    for name in ("part2.h5", "part10.h5", "part1.h5"):
        (tmp_path / name).touch()
    with pytest.raises(MlipError, match=r"shard 3, 4, 5, 6, 7 and 2 more is missing"):
        shards(tmp_path, [".h5"])
    (tmp_path / "valid.h5").touch()  # a file of another name changes nothing
    with pytest.raises(MlipError, match=r"shard 3, 4, 5, 6, 7 and 2 more is missing"):
        shards(tmp_path, [".h5"])
    for number in range(3, 10):
        (tmp_path / f"part{number}.h5").touch()
    (tmp_path / "other7.h5").touch()
    names = [path.name for path in shards(tmp_path, [".h5"])]
    assert names == ["other7.h5", *(f"part{n}.h5" for n in range(1, 11)), "valid.h5"]


def test_units_by_name():
    assert unit("eV/Ang", "x") == 1.0
    assert unit("kcal/mol", "x") == pytest.approx(0.0433641, abs=1e-6)
    assert unit("Hartree/Bohr", "x") == pytest.approx(51.4220675, abs=1e-5)
    with pytest.raises(MlipError, match=r"a\.db: unknown unit 'furlong'"):
        unit("furlong", "a.db")


def test_every_shared_file(shared):
    expected = {
        "3bpa/train_300K.xyz": 500, "3bpa/train_mixedT.xyz": 500, "oc20": 600,
        "oc20/s2ef_60.aselmdb": 60, "nabladft/test_database.db": 100,
        "mptrj_tp/mpf-alkali-TP.xyz": 460, "solvent_xtb/solvent_xtb_train_20.xyz": 23,
        "solvent_xtb/solvent_xtb_train_50.xyz": 53, "solvent_xtb/solvent_xtb_train_200.xyz": 203,
        "solvent_xtb/solvent_xtb_test_300.xyz": 300,
    }  # fmt: skip
    pickles = sorted((shared / "data" / "oc22_pickled").glob("*.pkl"))
    expected |= {str(path.relative_to(shared / "data")): 16 for path in pickles}
    for name, count in expected.items():
        keys = LabelKeys(energy="energy_xtb", forces="forces_xtb") if "xtb" in name else LabelKeys()
        kind = "s2ef" if name == "oc20" else None  # its folder holds an ASE-LMDB, too
        source = open_source(shared / "data" / name, SourceSettings(keys=keys, format=kind))
        assert len(source) == count, name
        for index in (0, count - 1):
            structure = source[index]
            assert structure.energy is not None, name
            assert len(structure) == source.num_atoms(index)
            np.testing.assert_array_equal(source.atomic_numbers(index), structure.numbers)
    atoms = SourceSettings(keys=LabelKeys(forces=None))
    assert len(open_source(Path(shared) / "data" / "3bpa" / "iso_atoms.xyz", atoms)) == 4
