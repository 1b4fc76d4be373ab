"""Damaged and foreign files: an error that names file and record, and nothing is run."""

import gzip
import lzma
import os
import pickle
import sqlite3
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlip.data.sources.cache import _writing
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.sources.s2ef import _table
from mlip.data.sources.source import BadRecordError, Source
from mlip.errors import MlipError
from tests.data.sources.written import (
    Call,
    FakeTorch,
    ase_lmdb,
    ase_row,
    graph_fields,
    molecule,
    relaxation_step,
    write_lmdb,
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MLIP_CACHE", str(folder))
    return folder


@pytest.fixture
def torch(monkeypatch) -> FakeTorch:
    return FakeTorch(monkeypatch)


def refused(path: Path, message: str, **settings) -> None:
    """The file as a whole cannot be used."""
    with pytest.raises(MlipError, match=message) as error:
        open_source(path, SourceSettings(**settings)).sizes()
    assert not isinstance(error.value, BadRecordError)
    assert "\n" not in str(error.value)


def one_bad_record(source: Source, index: int, message: str) -> None:
    """The record is named, its neighbours are read, its size is 0 or known."""
    with pytest.raises(BadRecordError, match=message) as error:
        source[index]
    assert "\n" not in str(error.value)
    assert error.value.name == source.identifier(index)
    assert str(error.value).startswith(f"{source.identifier(index)}: ")
    good = [record for record in source.stream() if not isinstance(record, BadRecordError)]
    assert len(good) == len(source) - 1 > 0
    assert len(source.sizes()) == len(source)


def graphs(path: Path, torch: FakeTorch, bad: bytes) -> Source:
    """Three graphs, the second of which is bad."""
    good = torch.graph(**graph_fields())
    return open_source(write_lmdb(path / "data.0000.lmdb", {b"0": good, b"1": bad, b"2": good}))


@pytest.mark.parametrize("damage", ["cut", "garbage", "text", "none"])
def test_corrupt_graph(tmp_path, torch, damage):
    whole = torch.graph(**graph_fields())
    bad = {"cut": whole[:-200], "garbage": bytes(range(256)), "text": pickle.dumps("graph"),
           "none": b""}[damage]  # fmt: skip
    source = graphs(tmp_path, torch, bad)
    one_bad_record(source, 1, r"data\.0000\.lmdb#1: the record is")
    np.testing.assert_array_equal(source.sizes(), [4, 0, 4])


def test_corrupt_tensor(tmp_path, torch):
    storage = torch.storage(np.zeros(12, np.float32))[:-5]
    fields = graph_fields() | {"pos": torch.tensor(np.zeros((4, 3), np.float32), storage)}
    one_bad_record(graphs(tmp_path, torch, torch.graph(**fields)), 1, "a tensor is truncated")


@pytest.mark.parametrize("name", ["energy", "forces", "pos", "cell"])
def test_a_number_that_is_not_finite(tmp_path, torch, name):
    fields = graph_fields()
    fields[name] = np.asarray(fields[name], np.float32) * np.float32(np.nan)
    one_bad_record(graphs(tmp_path, torch, torch.graph(**fields)), 1, r"#1: .*not finite")


@pytest.mark.parametrize("name", ["forces", "pos", "atomic_numbers", "tags", "fixed"])
def test_mismatched_lengths(tmp_path, torch, name):
    fields = graph_fields()
    fields[name] = fields[name][:-1]
    one_bad_record(graphs(tmp_path, torch, torch.graph(**fields)), 1, r"#1: .*(shape|entries in)")


@pytest.mark.parametrize(("name", "value"), [("forces", "none"), ("pos", "x"), ("cell", [1, 2])])
def test_a_field_of_another_type(tmp_path, torch, name, value):
    graph = torch.graph(**graph_fields() | {name: value})
    one_bad_record(graphs(tmp_path, torch, graph), 1, r"data\.0000\.lmdb#1: ")


def test_a_malicious_pickle_is_not_run(tmp_path, torch):
    marker = tmp_path / "was-run"
    command = Call(os.system, f"touch {marker}")
    pickle.loads(pickle.dumps(command))
    assert marker.exists()  # that is what it does to others
    marker.unlink()
    os_name = os.system.__module__
    source = graphs(tmp_path, torch, torch.graph(**graph_fields(), extra=command))
    one_bad_record(source, 1, f"the pickle asks for {os_name}.system, .* nothing of it was run")
    assert not marker.exists()


def test_a_malicious_pickle_inside_of_a_tensor_is_not_run(tmp_path, torch):
    marker = tmp_path / "was-run"
    storage = torch.storage(np.zeros(12, np.float32), Call(os.system, f"touch {marker}"))
    fields = graph_fields() | {"pos": torch.tensor(np.zeros((4, 3), np.float32), storage)}
    source = graphs(tmp_path, torch, torch.graph(**fields))
    one_bad_record(source, 1, r"a tensor asks for .*system; nothing of it was run")
    assert not marker.exists()


@pytest.mark.parametrize("function", [eval, getattr, open, pickle.loads])
def test_no_other_global_is_loaded(tmp_path, torch, function):
    bad = pickle.dumps(Call(function, "1"))
    one_bad_record(graphs(tmp_path, torch, bad), 1, "the pickle asks for")


def test_a_malicious_pickle_in_a_list_or_a_length(tmp_path, torch):
    marker = tmp_path / "was-run"
    command = pickle.dumps([Call(os.system, f"touch {marker}")])
    (tmp_path / "a.pkl").write_bytes(command)
    refused(tmp_path / "a.pkl", r"a\.pkl: the pickle asks for")
    good = torch.graph(**graph_fields())
    path = write_lmdb(tmp_path / "a.lmdb", {b"0": good, b"length": command})
    refused(path, "the entry 'length' is damaged")
    assert not marker.exists()


def test_a_length_that_is_not_the_number_of_records(tmp_path, torch):
    good = torch.graph(**graph_fields())
    path = write_lmdb(tmp_path / "a.lmdb", {b"0": good, b"1": good, b"length": pickle.dumps(5)})
    refused(path, "its length is 5, but it has 2 records")
    path = write_lmdb(tmp_path / "b.lmdb", {b"0": good, b"1": good, b"length": pickle.dumps(1)})
    refused(path, "its length is 1, but it has 2 records")


def test_a_missing_key(tmp_path, torch):
    good = torch.graph(**graph_fields())
    path = write_lmdb(tmp_path / "a.lmdb", {b"0": good, b"2": good, b"3": good})
    one_bad_record(open_source(path), 1, "no record with the key 1")


@pytest.mark.parametrize("keys", [[b"a", b"b"], [b"\x00\x00", b"\x00\x01"], [b"12345"]])
def test_keys_of_another_type(tmp_path, keys):
    path = write_lmdb(tmp_path / "a.lmdb", dict.fromkeys(keys, b"x"))
    refused(path, r"a\.lmdb: its first key is b'.*', which no known format has")
    refused(path, r"a\.lmdb: the first key is b'.*', expected the keys 0", format="graph_lmdb")
    refused(path, r"a\.lmdb has no key 'nextid'", format="ase_lmdb")
    refused(path, r"a\.lmdb: the key b'.*' is no PubChem CID", format="pubchemqcr")


def test_truncated_lmdb(tmp_path, torch):
    graph = torch.graph(**graph_fields())
    path = write_lmdb(tmp_path / "data.0000.lmdb", {b"%d" % i: graph for i in range(50)})
    whole = path.read_bytes()
    for size, message in (
        (len(whole) * 2 // 3, r"data\.0000\.lmdb is truncated: \d+ of \d+ bytes"),
        (1000, r"data\.0000\.lmdb cannot be read as an LMDB"),
        (0, r"data\.0000\.lmdb is empty"),
    ):
        path.write_bytes(whole[:size])
        refused(path, message)


def test_an_lmdb_of_something_else(tmp_path):
    (tmp_path / "a.lmdb").write_bytes(b"no database" * 1000)
    refused(tmp_path / "a.lmdb", r"a\.lmdb cannot be read as an LMDB")
    refused(write_lmdb(tmp_path / "b.lmdb", {}), r"b\.lmdb is an LMDB without a single entry")


def test_a_missing_shard(tmp_path, torch):
    for shard in (0, 1, 3):
        graph = torch.graph(**graph_fields())
        write_lmdb(tmp_path / f"data.{shard:04d}.lmdb", {b"0": graph})
    refused(tmp_path, r"shard 2 is missing in the sequence that ends with data\.0003\.lmdb")
    (tmp_path / "data.0000.lmdb").unlink()
    refused(tmp_path, "shard 0, 2 is missing")


def test_a_shard_that_is_there_twice(tmp_path):
    for name in ("0.extxyz.xz", "0.extxyz", "0.txt.xz"):
        (tmp_path / name).touch()
    refused(tmp_path, r"0\.extxyz and 0\.extxyz\.xz are the same shard")


@pytest.mark.parametrize("bad", [b"no zlib", zlib.compress(b"{"), zlib.compress(b"[1, 2]"),
                                 ase_row(2)[:-9], zlib.compress(b"{}")],
                         ids=["no zlib", "no JSON", "no mapping", "cut", "empty"])  # fmt: skip
def test_corrupt_ase_row(tmp_path, bad):
    path = ase_lmdb(tmp_path / "a.aselmdb", {1: ase_row(1), 2: bad, 3: ase_row(3)})
    one_bad_record(open_source(path), 1, r"a\.aselmdb#2: the record is")


@pytest.mark.parametrize(
    "changes", [{"energy": float("nan")}, {"forces": [[0.0, 0.0, 0.0]]}, {"energy": "?"}]
)
def test_ase_row_with_an_implausible_label(tmp_path, changes):
    rows = {1: ase_row(1), 2: ase_row(2, **changes), 3: ase_row(3)}
    one_bad_record(open_source(ase_lmdb(tmp_path / "a.aselmdb", rows)), 1, r"a\.aselmdb#2: (en|fo)")


def test_damaged_ids_of_an_ase_lmdb(tmp_path):
    path = write_lmdb(tmp_path / "a.aselmdb", {b"1": ase_row(1), b"nextid": b"2"})
    refused(path, r"a\.aselmdb: 'nextid' or 'deleted_ids' is damaged")


@pytest.mark.parametrize(
    "bad", [b"no gzip", gzip.compress(b"no pickle"), molecule(DFT_1st=[])[:-20],
            gzip.compress(pickle.dumps([1]))],
    ids=["no gzip", "no pickle", "cut", "no mapping"],
)  # fmt: skip
def test_corrupt_molecule(tmp_path, bad):
    good = molecule(DFT_1st=[relaxation_step()])
    entries = {b"000000001": good, b"000000002": bad, b"000000003": good}
    source = open_source(write_lmdb(tmp_path / "Data01.lmdb", entries))
    one_bad_record(source, 1, r"Data01\.lmdb#000000002: the record is")


def test_a_malicious_molecule_is_not_run(tmp_path):
    marker = tmp_path / "was-run"
    bad = gzip.compress(pickle.dumps({"DFT_1st": Call(os.system, f"touch {marker}")}))
    entries = {b"000000001": bad, b"000000003": molecule(DFT_1st=[relaxation_step()])}
    source = open_source(write_lmdb(tmp_path / "Data01.lmdb", entries))
    one_bad_record(source, 0, r"Data01\.lmdb#000000001: the pickle asks for")
    assert not marker.exists()


def test_a_stage_without_a_usable_step(tmp_path):
    steps = [relaxation_step(energy=None)]
    path = write_lmdb(tmp_path / "Data01.lmdb", {b"000000001": molecule(pm3=steps)})
    refused(path, r"Data01\.lmdb has no usable step of stage hf", stage="hf")
    refused(path, "stage pm3: .*left out 1 steps", stage="pm3")
    refused(path, "PubChemQCR holds total energies", energy_reference="atomisation")


def s2ef(folder: Path, frames: int = 3, lines: int = 3, line: str = "random1,frame{},-1.5") -> Path:
    water = Atoms("OH2", np.eye(3), info={"energy": -5.0})
    water.arrays["forces"] = np.zeros((3, 3))
    write(folder / "plain.xyz", [water] * frames, format="extxyz")
    compressed = folder / "0.extxyz.xz"
    compressed.write_bytes(lzma.compress((folder / "plain.xyz").read_bytes()))
    (folder / "plain.xyz").unlink()
    text = "".join(line.format(index) + "\n" for index in range(lines))
    (folder / "0.txt.xz").write_bytes(lzma.compress(text.encode()))
    return compressed


@pytest.mark.parametrize("lines", [2, 4])
def test_frames_and_lines_that_do_not_match(tmp_path, lines):
    path = s2ef(tmp_path, lines=lines)
    message = rf"0\.extxyz\.xz has 3 frames but .*0\.txt\.xz has {lines} lines"
    refused(path, message)
    with pytest.raises(MlipError, match=message):
        list(open_source(path))


def test_s2ef_without_text_or_with_another(tmp_path):
    path = s2ef(tmp_path, line="frame {}")
    refused(path, r"0\.txt\.xz: line 1 is 'frame', expected random<sid>,frame<fid>")
    (tmp_path / "0.txt.xz").unlink()
    refused(tmp_path, r"0\.extxyz\.xz has no 0\.txt\.xz beside it", format="s2ef")


def test_s2ef_without_reference_energies(tmp_path):
    path = s2ef(tmp_path, line="random1,frame{}")
    refused(path, r"0\.txt\.xz has no third column", energy_reference="referenced")
    refused(path, "no atomisation ones", energy_reference="atomisation")
    assert open_source(path).energy_reference == "total"


def test_s2ef_with_a_misspelt_label_key(tmp_path):
    source = open_source(s2ef(tmp_path), SourceSettings(keys=LabelKeys(energy="enery")))
    message = (
        r"0\.extxyz\.xz: none of the 3 frames .*'enery'.* did you mean .*keys\.energy=energy\?"
    )
    for reading in (lambda: source[0], lambda: list(source.stream())):
        with pytest.raises(MlipError, match=message) as error:
            reading()
        assert not isinstance(error.value, BadRecordError)


@pytest.mark.parametrize("bad", [0, 1])
def test_s2ef_with_one_energy_missing(tmp_path, bad):
    path = s2ef(tmp_path)
    before, *after = lzma.decompress(path.read_bytes()).split(b" energy=-5.0")
    labels = [b"" if index == bad else b" energy=-5.0" for index in range(3)]
    text = before + b"".join(map(b"".join, zip(labels, after, strict=True)))
    path.write_bytes(lzma.compress(text))
    one_bad_record(open_source(path), bad, rf"0\.extxyz\.xz#{bad}: it has no energy, which other")


def test_s2ef_with_one_reference_energy_missing(tmp_path):
    path = s2ef(tmp_path)
    lines = "random1,frame0,-1.5\nrandom1,frame1,\nrandom1,frame2,-1.5\n"
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(lines.encode()))
    one_bad_record(open_source(path), 1, r"0\.extxyz\.xz#1: 0\.txt\.xz has no reference energy")


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "plain", "empty"])
def test_bad_compression(tmp_path, suffix, damage):
    plain = lzma.decompress(s2ef(tmp_path, frames=50).read_bytes())
    whole = {".xz": lzma.compress, ".gz": gzip.compress}[suffix](plain)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    content = {"cut": whole[:-40], "flipped": bytes(flipped), "plain": plain, "empty": b""}[damage]
    path = tmp_path / f"a.extxyz{suffix}"
    path.write_bytes(content)
    refused(path, rf"a\.extxyz{suffix} is (damaged or truncated|empty)")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLIP_CACHE", str(tmp_path / "file"))
    source = open_source(s2ef(tmp_path))
    with pytest.raises(MlipError, match=r"cannot write .* name a folder on another disk"):
        source[0]


def test_a_disk_that_is_full(tmp_path, monkeypatch, cache):
    def full(*_):
        raise OSError(28, "No space left on device")

    source = open_source(s2ef(tmp_path))
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(MlipError, match=r"No space left on device.*make room"):
        source[0]
    assert not [path for path in cache.rglob("*") if "content" in path.name or "part" in path.name]
    monkeypatch.undo()
    monkeypatch.setenv("MLIP_CACHE", str(cache))
    assert source[0].energy == -3.5


def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path, cache):
    source = open_source(s2ef(tmp_path))
    assert source[2].energy == -3.5
    (entry,) = cache.rglob("frames-*")
    for damage in (entry.read_bytes()[:-40], b"", b"no array"):
        entry.write_bytes(damage)
        _table.cache_clear()
        assert source[2].energy == -3.5
    assert entry.stat().st_size > 100


def test_an_entry_that_another_process_has_just_made_is_never_gone(tmp_path, cache, monkeypatch):
    """Whoever makes the same entry replaces it; between two states of it there is no gap."""
    source = open_source(s2ef(tmp_path))
    source[0]
    (entry,) = cache.rglob("content-*")
    older = entry.with_name("content-older")
    older.touch()
    gone, unlink = [], Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        gone.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    with _writing(entry) as file:
        file.write(entry.read_bytes())
    assert entry not in gone
    assert not older.exists()
    assert source[2].energy == -3.5


def test_several_at_once_make_the_same_entry(tmp_path, cache):
    path = s2ef(tmp_path, frames=50, lines=50)
    with ThreadPoolExecutor(8) as pool:
        energies = list(pool.map(lambda index: open_source(path)[index].energy, range(50)))
    assert energies == [-3.5] * 50
    assert len(list(cache.rglob("content-*"))) == 1
    assert not list(cache.rglob(".part*"))


def test_a_sqlite_file_that_is_no_ase_database(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    before = (tmp_path / "a.db").read_bytes()
    refused(tmp_path / "a.db", r"a\.db cannot be read as an ASE database \(no such table")
    assert (tmp_path / "a.db").read_bytes() == before
    (tmp_path / "b.db").write_bytes(b"no database" * 1000)
    refused(tmp_path / "b.db", r"b\.db cannot be read as an ASE database")


def test_hdf5_of_another_layout(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["positions"] = np.eye(3)
    refused(tmp_path / "a.h5", r"a\.h5 has no groups config_batch_0/config_0")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:300])
    refused(tmp_path / "b.h5", r"b\.h5 cannot be read as HDF5")


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").touch()
    refused(tmp_path / "a.h5", r"install it with pip install 'jax-mlip\[hdf5\]'")


def test_hdf5_with_a_bad_configuration(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for index in range(3):
            group = file.create_group(f"config_batch_0/config_{index}")
            group["atomic_numbers"], group["positions"] = [1], np.zeros((1, 3))
            group["energy"], group["forces"] = -1.0, np.zeros((1 + index % 2, 3))
    source = open_source(tmp_path / "a.h5")
    one_bad_record(source, 1, r"config_1: forces has shape \(2, 3\), expected \(1, 3\)")


def test_a_label_key_that_no_record_has(tmp_path, torch):
    write_lmdb(tmp_path / "a.lmdb", {b"0": torch.graph(**graph_fields(old=True))})
    ase_lmdb(tmp_path / "a.aselmdb", {1: ase_row(1), 2: ase_row(1)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("config_batch_0/config_0")
        group["atomic_numbers"], group["positions"] = [1], np.zeros((1, 3))
        group["properties/energy"], group["properties/forces"] = -1.0, "None"
    keys = LabelKeys(energy="enery", forces=None)
    for name in ("a.lmdb", "a.aselmdb", "a.h5"):
        refused(tmp_path / name, rf"{name}: none of the \d .* did you mean .*energy=e", keys=keys)
    refused(tmp_path / "a.h5", r"keys present \(frames\): energy \(1\); set")


def test_a_path_that_is_nothing_known(tmp_path):
    refused(tmp_path / "none", "none does not exist; check its name, and dataset.root")
    refused(tmp_path, "is a folder without files of a known kind; expected shards such as")
    (tmp_path / "deeper").mkdir()
    refused(tmp_path, r"\*\.h5, or the name of a folder in it, such as .*deeper\.")
    refused(tmp_path, "is a folder without files ending in .h5 or .hdf5", format="hdf5")
    (tmp_path / "a.txt").write_text("no structure")
    refused(tmp_path / "a.txt", r"ASE cannot read .*a\.txt")
    (tmp_path / "a.xyz").touch()
    refused(tmp_path / "a.xyz", r"a\.xyz is empty; expected extended XYZ frames")


def test_a_folder_with_shards_of_two_formats(tmp_path):
    ase_lmdb(tmp_path / "rows.aselmdb", {1: ase_row(2)})
    ase_lmdb(tmp_path / "more.lmdb", {1: ase_row(2)})  # the same format under the other ending
    assert len(open_source(tmp_path)) == 2
    write_lmdb(tmp_path / "Data01.lmdb", {b"000000001": molecule(DFT_1st=[relaxation_step()])})
    refused(
        tmp_path,
        r"holds shards of 2 formats: Data01\.lmdb \(PubChemQCR LMDB\), more\.lmdb \(ASE-LMDB\); "
        r"say which to read with format=pubchemqcr or format=ase_lmdb",
    )
    (tmp_path / "Data01.lmdb").unlink()
    write(tmp_path / "0.extxyz", Atoms("H"))
    refused(tmp_path, "holds shards of 2 formats: 0.extxyz .*, more.lmdb")
    assert len(open_source(tmp_path, SourceSettings(format="ase_lmdb"))) == 2


def test_a_stage_means_nothing_to_other_formats(tmp_path):
    write(tmp_path / "a.xyz", Atoms("H"))
    refused(tmp_path / "a.xyz", r"a\.xyz: stage=hf has an effect on PubChemQCR's own", stage="hf")


def test_a_name_that_is_almost_right(tmp_path):
    (tmp_path / "s2ef_train_200K").mkdir()
    (tmp_path / "s2ef_val_id").mkdir()
    refused(tmp_path / "s2ef_train_2M", r"did you mean s2ef_train_200K\? Else check its name")
