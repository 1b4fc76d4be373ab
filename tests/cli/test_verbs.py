"""Every verb from end to end on a tiny data set, as a user would run it."""

import json
import shutil
import subprocess
import sys

import ase.io
import numpy as np
import pytest
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import mlip
from mlip.cli.build import continue_from
from mlip.cli.compose import compose
from mlip.cli.main import main
from mlip.cli.schema import SCHEMAS
from mlip.cli.train import _prepare
from mlip.cli.validate import validate
from tests.support.cli import TINY

pytest_plugins = ("tests.support.cli",)


def test_train_leaves_a_complete_run_folder(trained):
    for name in ("config.yaml", "metrics.jsonl", "metrics.csv", "model.mlip", "report.html"):
        assert (trained / name).stat().st_size > 0
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert set(evaluation) == {"valid", "hot"}
    assert evaluation["hot"]["num_structures"] == 6
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["channels"] == 4


def test_saved_model_knows_where_it_comes_from(trained):
    metadata = mlip.load(trained / "model.mlip").metadata
    assert metadata["training_config"]["model"]["channels"] == 4
    assert len(metadata["data"]["fingerprint"]) == 64
    assert metadata["data"]["energy_reference"] == "unstated"
    assert metadata["metrics"] == json.loads((trained / "evaluation.json").read_text())
    assert metadata["versions"]["jax-mlip"] == mlip.__version__
    assert "atoms.xyz" in metadata["e0_origin"]


def test_saved_model_and_report_show_the_data_in_numbers(trained, data_folder):
    metadata = mlip.load(trained / "model.mlip").metadata
    assert {n: s["structures"] for n, s in metadata["data"]["subsets"].items()} == {
        "train": 14, "valid": 2, "hot": 6
    }  # fmt: skip
    found = metadata["data"]["subsets"]["hot"]
    frames = ase.io.read(data_folder / "test.xyz", index=":")
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    assert found["forces_rms_ev_per_a"] == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert found["forces_max_ev_per_a"] == pytest.approx(np.abs(forces).max())
    e0 = {atoms.symbols[0]: atoms.get_potential_energy()
          for atoms in ase.io.read(data_folder / "atoms.xyz", index=":")}  # fmt: skip
    energies = [(a.get_potential_energy() - sum(map(e0.get, a.symbols))) / len(a) for a in frames]
    assert found["energy_mean_ev_per_atom"] == pytest.approx(np.mean(energies), abs=1e-6)
    assert found["energy_spread_ev_per_atom"] == pytest.approx(np.std(energies), rel=1e-4)
    assert (found["atoms"], found["elements"]) == (
        [min(map(len, frames)), max(map(len, frames))], ["H", "O"]
    )  # fmt: skip
    assert f"{found['forces_rms_ev_per_a']:.2g}" in (trained / "report.html").read_text()


def test_finished_run_is_not_done_again(trained, train_words, capsys):
    before = (trained / "model.mlip").stat().st_mtime_ns
    assert main([*train_words, f"run.dir={trained}"]) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert (trained / "model.mlip").stat().st_mtime_ns == before


def test_finished_run_is_evaluated_again_for_other_test_subsets(
    trained, train_words, tmp_path, capsys
):
    folder = shutil.copytree(trained, tmp_path / "run")
    words = [*train_words, f"run.dir={folder}", "dataset.tests={hot: test.xyz, few: test.xyz@:2}"]
    assert main(words) == 0
    assert set(json.loads((folder / "evaluation.json").read_text())) == {"valid", "hot", "few"}
    assert set(yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["tests"]) == {
        "hot",
        "few",
    }
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_same_folder_goes_on_when_asked_for_more(train_words, tmp_path, capsys):
    words = [*train_words, f"run.dir={tmp_path}"]
    assert main([*words, "trainer.max_epochs=1"]) == 0
    assert main([*words, "trainer.max_epochs=2"]) == 0
    said = capsys.readouterr().out
    assert "Resuming from the checkpoint" in said
    assert "; convolution channelwise, product symmetric_contraction; " in said
    metadata = mlip.load(tmp_path / "model.mlip").metadata
    assert metadata["training"]["epochs"] == 2


def test_evaluate_agrees_with_the_evaluation_after_training(trained, data_folder, tmp_path, capsys):
    words = ["evaluate", f"model={trained}/model.mlip", f"run.dir={tmp_path}"]
    assert main([*words, f"data={data_folder}/test.xyz"]) == 0
    assert "meV/Å" in capsys.readouterr().out
    found = json.loads((tmp_path / "evaluation.json").read_text())["test"]
    before = json.loads((trained / "evaluation.json").read_text())["hot"]
    assert found["forces_rmse_mev_per_a"] == pytest.approx(before["forces_rmse_mev_per_a"])
    assert (tmp_path / "report.html").is_file()


def test_evaluate_doubts_labels_of_another_level_of_theory(trained, data_folder, tmp_path, capsys):
    frames = read(data_folder / "test.xyz", ":")
    for atoms in frames:
        energy = atoms.get_potential_energy() / 27.2
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=atoms.get_forces())
    write(tmp_path / "other.xyz", frames)
    words = ["evaluate", f"model={trained}/model.mlip", f"run.dir={tmp_path}/run"]
    assert main([*words, f"data={tmp_path}/other.xyz"]) == 0
    assert "warning: other: energies are wrong by" in capsys.readouterr().out


def test_a_batch_larger_than_the_data_is_pointed_out(train_words, tmp_path, capsys):
    words = [*train_words[1:], f"run.dir={tmp_path}", "trainer.batch_size=50"]
    *_, warnings = _prepare(validate(SCHEMAS["train"], compose("train", words)))
    (found,) = [warning for warning in warnings if "batch_size" in warning]
    assert "trainer.batch_size=50, but there are only 14 training frames" in found
    assert f"warning: {found}" in capsys.readouterr().out


def test_evaluate_leaves_the_report_of_another_model_alone(
    trained, data_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = shutil.copy(trained / "model.mlip", tmp_path)
    words = ["evaluate", f"model={model}", f"data={data_folder}/test.xyz@:1"]
    assert main(words) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (tmp_path / "model.mlip").write_bytes(b"another")
    assert main(words) == 2
    assert f"holds results of model={model}" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_md_and_relax_write_their_folders(trained, data_folder, tmp_path, capsys):
    common = [f"model={trained}/model.mlip", f"structure={data_folder}/start.xyz"]
    md = [f"run.dir={tmp_path}/md", "md.steps=5", "md.temperature=10"]
    assert main(["md", *common, *md]) == 0
    assert (tmp_path / "md" / "trajectory.xyz").is_file()
    said = capsys.readouterr().out
    assert said.index("edges (first structure) …") < said.index("… took") < said.index("ps done")
    assert said.count("first structure") == 1
    assert main(["md", *common, *md]) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert main(["md", *common, *md, "md.temperature=20"]) == 2
    assert "temperature=20.0 (was 10.0)" in (refused := capsys.readouterr().err)
    assert "run.name=" in refused
    code = main(["relax", *common, f"run.dir={tmp_path}/relax", "relax.max_steps=2"])
    written = {path.name for path in (tmp_path / "relax").iterdir()}
    assert ("relaxed.xyz" in written) == (code == 0)
    assert yaml.safe_load((tmp_path / "relax" / "config.yaml").read_text())["relax"]


def test_info_describes_saved_model_and_config(trained, data_folder, capsys):
    assert main(["info", f"model={trained}/model.mlip"]) == 0
    saved = capsys.readouterr().out
    data = [
        "dataset=extxyz",
        f"dataset.root={data_folder}",
        "dataset.train=train.xyz",
        "dataset.isolated_atoms=atoms.xyz",
    ]
    assert main(["info", TINY[0], *data]) == 0
    config = capsys.readouterr().out
    count = f"{mlip.load(trained / 'model.mlip').num_parameters:,}"
    for text in (saved, config):
        for expected in (count, "4.0 Å", "H O", "float32", "GFLOP", "isolated atoms"):
            assert expected in text
    assert "fingerprint" in saved


def test_benchmark_writes_every_number(data_folder, tmp_path):
    words = ["benchmark", "model", TINY[0], "steps=5", f"run.dir={tmp_path}", "dataset=extxyz"]
    words += [f"dataset.root={data_folder}", "dataset.train=train.xyz"]
    assert main([*words, "dataset.isolated_atoms=atoms.xyz"]) == 0
    results = json.loads((tmp_path / "benchmark.json").read_text())
    for key in ("train_step_ms", "ase_step_ms", "compile_s", "atoms_per_s", "peak_memory_mb"):
        assert results[key] > 0
    assert results["num_compilations"] >= 1
    assert 0 <= results["padding_share"] < 1
    assert results["num_parameters"] > 0


def test_fine_tuning_starts_from_the_saved_weights(trained, train_words, tmp_path, capsys):
    words = [word for word in train_words if not word.startswith("model=")]
    words += [f"init_from={trained}/model.mlip", f"run.dir={tmp_path}"]
    # A vanishing learning rate shows where the training started.
    assert main([*words, "optimizer.lr=1e-12", "trainer.max_epochs=1"]) == 0
    assert f"weights of {trained}/model.mlip\n" in capsys.readouterr().out
    before = np.load(trained / "predictions.npz")["hot/forces"]
    after = np.load(tmp_path / "predictions.npz")["hot/forces"]
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_init_from_and_another_architecture_contradict(trained, train_words, tmp_path, capsys):
    words = [word for word in train_words if not word.startswith("model=")]
    words += [f"init_from={trained}/model.mlip", f"run.dir={tmp_path}"]
    assert main([*words, "model=mace_large"]) == 2
    assert "contradict" in capsys.readouterr().err
    assert main([*words, "model.channels=8"]) == 2
    assert "channels is 4 there, 8 here" in capsys.readouterr().err


def test_fine_tuning_in_another_precision_says_so(trained, capsys):
    path, saved = trained / "model.mlip", mlip.load(trained / "model.mlip")
    model = continue_from(saved, path, saved.config, precision="float64")
    assert model.embedding[...].dtype == np.float64
    assert f"weights of {path}, float32 there, float64 here" in capsys.readouterr().out


def test_cfg_prints_what_would_run_and_runs_nothing(train_words, tmp_path, capsys):
    assert main([*train_words, "--cfg", "job", f"run.dir={tmp_path}/new"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["batch_size"] == 4
    assert not (tmp_path / "new").exists()


def test_console_entry_in_a_process_of_its_own(root):
    done = subprocess.run(
        [sys.executable, "-m", "mlip.cli.main", "train", "model.chanels=3"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean model.channels?" in done.stderr
    assert "Traceback" not in done.stderr
