import lzma
import subprocess
import sys

import numpy as np
import pytest
from ase.io import write

from mlip.cli.main import main
from mlip.data import prepare as module
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.data.e0 import make_e0
from mlip.data.prepare import e0_name, prepare
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.errors import MlipError
from tests.data.sources.test_prepared import assert_same
from tests.data.sources.written import molecule, relaxation_step, write_lmdb
from tests.support.cli import labelled
from tests.support.training import clusters

SIZE = 23


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """A file of labelled clusters, prepared seven at a time."""
    monkeypatch.setattr(module, "PIECE", 7)
    write(tmp_path / "train.xyz", [labelled(s) for s in clusters(SIZE)])
    return tmp_path / "train.xyz"


def run(data, output, **options):
    settings = SourceSettings(**options.pop("settings", {}))
    return prepare(str(data), output, settings, **{"cutoff": 4.0, "workers": 0, **options})


def test_prepared_data_are_those_of_the_source(frames, tmp_path):
    output = tmp_path / "prepared" / "train.lmdb"
    progress = run(frames, output)
    before, after = open_source(frames), open_source(output)
    assert len(after) == progress.records == SIZE
    np.testing.assert_array_equal(after.sizes(), before.sizes())
    for found, expected in zip(after, before, strict=True):
        assert_same(found, expected)
        assert expected.identifier in found.identifier
    assert {path.name for path in output.parent.iterdir()} == {"train.lmdb", "train.e0.npz"}


def test_e0_and_neighbours_are_those_of_all_frames(frames, tmp_path):
    output = tmp_path / "train.lmdb"
    tally = run(frames, output).tally
    fitted = make_e0("least_squares", list(open_source(frames)), [])
    assert tally.fit_e0().values == pytest.approx(fitted.values, abs=1e-6)
    assert tally.avg_num_neighbors > 1
    settings = DatasetSettings(
        name="x", root=tmp_path, train="train.lmdb", e0=e0_name(output).name, valid_count=3
    )
    dataset = load_dataset(settings)
    assert dataset.e0.values == pytest.approx(fitted.values, abs=1e-6)
    assert len(dataset.train) == SIZE - 3


def test_workers_write_the_same_file_as_one_process(tmp_path, monkeypatch):
    steps = [relaxation_step(-76.0 - index) for index in range(5)]
    bad = relaxation_step(float("nan"))
    molecules = {b"%09d" % number: molecule(DFT_1st=[*steps, bad]) for number in range(1, 5)}
    path = write_lmdb(tmp_path / "Data06.lmdb", molecules)
    run(path, tmp_path / "one.lmdb")
    run(path, tmp_path / "two.lmdb", workers=2)
    one, two = open_source(tmp_path / "one.lmdb"), open_source(tmp_path / "two.lmdb")
    assert len(one) == len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert_same(a, b)
    assert two.trajectory(7) == "000000002"
    assert "left out 4 steps" in two.notes[0]


def test_compressed_chunks_are_read_in_order_without_a_decompressed_copy(tmp_path, monkeypatch):
    monkeypatch.setenv("MLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PIECE", 4)
    folder = tmp_path / "s2ef"
    folder.mkdir()
    for chunk, count in enumerate((6, 5)):
        write(folder / "plain.xyz", [labelled(s) for s in clusters(count, seed=chunk)])
        text = (folder / "plain.xyz").read_bytes()
        (folder / f"{chunk}.extxyz.xz").write_bytes(lzma.compress(text))
        lines = "".join(f"random{chunk},frame{frame},-1.5\n" for frame in range(count))
        (folder / f"{chunk}.txt.xz").write_bytes(lzma.compress(lines.encode()))
    (folder / "plain.xyz").unlink()
    assert run(folder, tmp_path / "all.lmdb").records == 11
    assert not (tmp_path / "cache").exists()
    run(f"{folder}@2:9", tmp_path / "some.lmdb")
    every, some = open_source(tmp_path / "all.lmdb"), open_source(tmp_path / "some.lmdb")
    assert every.energy_reference == "referenced"
    with np.load(e0_name(tmp_path / "all.lmdb")) as fitted:
        assert fitted["energy_reference"] == "referenced"
    assert [s.energy for s in some] == [every[index].energy for index in range(2, 9)]
    assert some.trajectory(6) == "1"


def test_the_folder_of_the_source_may_hold_other_files(tmp_path):
    folder = tmp_path / "s2ef"
    folder.mkdir()
    write(folder / "0.extxyz", [labelled(s) for s in clusters(6)])
    (folder / "0.txt").write_text("".join(f"random0,frame{n}\n" for n in range(6)))
    output = tmp_path / "all.lmdb"

    def interrupted(progress, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, output, report=interrupted)
    (folder / "notes.md").write_text("begun on Monday")
    first = run(folder, output)
    assert first.records == 6
    assert run(folder, output).to_json() == first.to_json()
    (folder / "0.txt").write_text("".join(f"random1,frame{n}\n" for n in range(6)))
    with pytest.raises(MlipError, match=r"source\.sha256"):
        run(folder, output)


def test_complete_data_are_not_prepared_again(frames, tmp_path):
    output = tmp_path / "train.lmdb"
    first = run(frames, output)
    changed = output.stat().st_mtime_ns
    again = run(frames, output)
    assert output.stat().st_mtime_ns == changed
    assert again.to_json() == first.to_json()


def test_command_prints_what_the_file_holds(frames, tmp_path, capsys):
    words = ["data", "prepare", f"data={frames}", f"output={tmp_path}/train.lmdb", "workers=0"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for expected in ("23 (0 left out)", "H O", "RMS", "E0 from least squares", "neighbours within"):
        assert expected in printed
    assert main(words) == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_preparing_needs_no_jax(root):
    code = "import sys, mlip.data.prepare; print('jax' in sys.modules or 'flax' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "False"
