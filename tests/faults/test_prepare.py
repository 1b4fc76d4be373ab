"""Faults while data are prepared: nothing that was written is lost, and no file is half made."""

import signal
import subprocess
import sys

import lmdb
import pytest
from ase.io import write

from mlip.cli.main import main
from mlip.data import prepare as module
from mlip.data.convert import convert
from mlip.data.files import Files
from mlip.data.prepare import prepare
from mlip.data.prepared_file import partial_name, writing
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.sources.source import BadRecordError
from mlip.errors import MlipError
from tests.data.sources.test_prepared import assert_same
from tests.data.sources.written import ase_lmdb, ase_row
from tests.support.cli import labelled
from tests.support.disk import largest_file
from tests.support.training import clusters

SIZE = 40
PREPARING = """
import os, signal, sys
from pathlib import Path
from mlip.data import prepare as module
from mlip.data.sources.registry import SourceSettings
module.PIECE = 5

def report(progress, total):
    if progress.read == 15:
        {half_way}

module.prepare(sys.argv[1], Path(sys.argv[2]), SourceSettings(), cutoff=4.0, workers=0,
               report=report)
"""
KILLED = PREPARING.format(half_way="os.kill(os.getpid(), signal.SIGKILL)")
WAITING = PREPARING.format(half_way="print('half-way', flush=True); sys.stdin.readline()")


@pytest.fixture
def frames(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 5)
    write(tmp_path / "train.xyz", [labelled(s) for s in clusters(SIZE)])
    return tmp_path / "train.xyz"


def run(data, output, **options):
    reads = []
    options = {"cutoff": 4.0, "workers": 0, **options}
    report = lambda progress, total: reads.append(progress.read)  # noqa: E731
    progress = prepare(str(data), output, SourceSettings(), report=report, **options)
    return progress, reads


def require_whole(output, frames):
    for found, expected in zip(open_source(output), open_source(frames), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize(("room", "some"), [(4_096, False), (10_000, False), (50_000, True)])
def test_disk_full_is_one_clear_error_and_nothing_is_lost(frames, tmp_path, room, some):
    output = tmp_path / "train.lmdb"
    with (
        largest_file(room),
        pytest.raises(MlipError, match="disk is full; make room") as error,
    ):
        run(frames, output)
    assert "\n" not in str(error.value)
    assert not output.exists()
    progress, reads = run(frames, output)
    assert (reads[0] > 0) == some
    assert reads[0] < SIZE
    assert (f"the first {reads[0]} records are safe" in str(error.value)) == some
    assert progress.records == SIZE
    require_whole(output, frames)


def test_a_killed_preparation_goes_on_where_it_stopped(frames, tmp_path, root):
    output = tmp_path / "train.lmdb"
    command = [sys.executable, "-c", KILLED, str(frames), str(output)]
    done = subprocess.run(command, cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    progress, reads = run(frames, output)
    assert reads[0] == 15
    require_whole(output, frames)
    whole, _ = run(frames, tmp_path / "whole.lmdb")
    assert progress.tally.fit_e0().values == pytest.approx(whole.tally.fit_e0().values)
    assert progress.tally.neighbors == whole.tally.neighbors


def test_two_processes_that_prepare_at_once(frames, tmp_path, root):
    output = tmp_path / "train.lmdb"
    command = [sys.executable, "-c", WAITING, str(frames), str(output)]
    with subprocess.Popen(command, cwd=root, stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"half-way\n"
        with pytest.raises(MlipError, match="another process is preparing"):
            run(frames, output)
        other.communicate(b"go on\n")
    assert other.returncode == 0
    require_whole(output, frames)


@pytest.mark.parametrize("change", ["source", "settings"])
def test_another_source_or_other_settings_are_not_gone_on_with(frames, tmp_path, change):
    output = tmp_path / "train.lmdb"
    with largest_file(50_000), pytest.raises(MlipError, match="disk is full"):
        run(frames, output)
    before = partial_name(output).read_bytes()
    if change == "source":
        write(frames, [labelled(s) for s in clusters(SIZE, seed=1)])
    with pytest.raises(MlipError, match=r"was begun with .*remove the file, or choose another"):
        run(frames, output, cutoff=4.0 if change == "source" else 6.0)
    assert partial_name(output).read_bytes() == before


def test_complete_data_of_another_source_are_not_replaced(frames, tmp_path):
    output = tmp_path / "train.lmdb"
    run(frames, output)
    write(frames, [labelled(s) for s in clusters(3, seed=1)])
    with pytest.raises(MlipError, match=r"was begun with source\.bytes="):
        run(frames, output)
    assert len(open_source(output)) == SIZE


def test_an_incomplete_file_is_no_source(frames, tmp_path):
    with writing(tmp_path / "x.lmdb", {"format": 1, "energy_reference": "total", "notes": []}):
        pass
    partial_name(tmp_path / "x.lmdb").rename(tmp_path / "x.lmdb")
    with pytest.raises(MlipError, match="is not complete"):
        open_source(tmp_path / "x.lmdb")


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "output={}/out.lmdb"],
        ["convert", "output={}/out.aselmdb"],
        ["convert", "output={}/out.extxyz"],  # another kind, but the folder would hold two then
        ["split", "output={}", "files=.lmdb", "fractions={{train: 0.5, test: 0.5}}"],
    ],
    ids=" ".join,
)
def test_an_output_among_its_own_sources_is_refused(tmp_path, capsys, words):
    ase_lmdb(tmp_path / "data.0000.aselmdb", {1: ase_row(2)})
    verb, *options = (word.format(tmp_path) for word in words)
    assert main(["data", verb, f"data={tmp_path}", *options]) == 2
    assert "would stand among the files of" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.0000.aselmdb"]


def test_missing_shard(tmp_path):
    for number in (0, 2):
        ase_lmdb(tmp_path / f"data.{number:04d}.aselmdb", {1: ase_row(2)})
    with pytest.raises(MlipError, match=r"shard 1 is missing"):
        run(tmp_path, tmp_path / "out" / "out.lmdb")
    assert not partial_name(tmp_path / "out" / "out.lmdb").exists()


def test_bad_records_stop_or_are_left_out_and_counted(tmp_path, capsys):
    rows = {number: ase_row(3, energy=-1.0 - number) for number in range(1, 6)}
    rows[4] = ase_row(3, energy=float("nan"))
    data, output = ase_lmdb(tmp_path / "data.aselmdb", rows), tmp_path / "out.lmdb"
    with pytest.raises(BadRecordError, match=r"data\.aselmdb#4: .*set on_bad_record=skip"):
        run(data, output)
    words = ["data", "prepare", f"data={data}", f"output={output}", "cutoff=4", "workers=1"]
    assert main([*words, "on_bad_record=skip"]) == 0
    printed = capsys.readouterr().out
    assert "4 (1 left out)" in printed
    assert "left out: data.aselmdb#4: energy is not finite" in printed
    assert [s.energy for s in open_source(output)] == [-2.0, -3.0, -4.0, -6.0]


def test_a_damaged_record_names_itself(frames, tmp_path):
    output = tmp_path / "train.lmdb"
    run(frames, output)
    with (
        lmdb.open(str(output), subdir=False, lock=False, map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        key = b"record" + (3).to_bytes(8, "big")
        transaction.put(key, transaction.get(key)[:-5])
    source = open_source(output)
    with pytest.raises(BadRecordError, match=r"train\.lmdb#3: the record is damaged"):
        source[3]
    assert source[4].energy is not None


def test_the_output_must_be_an_lmdb(frames, tmp_path):
    with pytest.raises(MlipError, match=r"expected a name ending in \.lmdb"):
        run(frames, tmp_path / "train.xyz")


@pytest.mark.parametrize("suffix", [".xyz", ".aselmdb", ".db"])
def test_disk_full_in_a_conversion_leaves_nothing_half_made(frames, tmp_path, suffix):
    part = Files(tmp_path, SourceSettings()).open(frames.name)
    output = tmp_path / "out" / f"train{suffix}"
    with (
        largest_file(9_000),
        pytest.raises(MlipError, match=r"cannot be written .*make room"),
    ):
        convert(part, output)
    assert list(output.parent.iterdir()) == []
    assert convert(part, output).records == SIZE
