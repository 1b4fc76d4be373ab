import json

from mlip.cli.console import console, sweep_table
from mlip.cli.main import main

pytest_plugins = ("tests.support.cli",)


def test_each_job_is_a_process_with_its_own_folder(trained, data_folder, tmp_path, capfd):
    words = ["relax", "-m", f"model={trained}/model.mlip", f"structure={data_folder}/start.xyz"]
    words += [f"run.dir={tmp_path}", "relax.max_steps=0", "relax.fmax=1000,1e-9"]
    assert main(words) == 1
    assert (tmp_path / "relax.fmax=1000" / "relaxed.xyz").is_file()
    assert (tmp_path / "relax.fmax=1e-09" / "unconverged.xyz").is_file()
    summary = capfd.readouterr().out.rpartition("Sweep")[2].splitlines()
    assert any("relax.fmax=1000" in line and "well" in line for line in summary)
    assert any("relax.fmax=1e-09" in line and "failed (1)" in line for line in summary)


def test_a_job_that_is_interrupted_ends_the_sweep(train_words, tmp_path, capsys, monkeypatch):
    begun = []
    monkeypatch.setattr("mlip.cli.sweep._run", lambda _, job: begun.append(job.label) or 130)
    words = ["train", "-m", *train_words[1:], f"run.dir={tmp_path}", "trainer.seed=1,2"]
    assert main(words) == 130
    assert begun == ["trainer.seed=1"]
    assert "sweep stopped in job 1; the same command goes on" in capsys.readouterr().out


def test_summary_shows_the_force_errors_of_every_subset(tmp_path):
    for name, error in (("a", 12.34), ("b", 56.78)):
        (tmp_path / name).mkdir()
        content = {"300K": {"forces_rmse_mev_per_a": error}, "600K": {}}
        (tmp_path / name / "evaluation.json").write_text(json.dumps(content))
    jobs = [("x=1", tmp_path / "a"), ("x=2", tmp_path / "b"), ("x=3", tmp_path / "absent")]
    with console().capture() as capture:
        console().print(sweep_table(jobs, [0, 0, 2]))
    lines = capture.get().splitlines()
    assert any("x=1" in line and "12.3" in line for line in lines)
    assert any("x=2" in line and "56.8" in line for line in lines)
    assert any("x=3" in line and "failed (2)" in line and "–" in line for line in lines)


def test_all_combinations_of_keys_and_groups(train_words, tmp_path, capsys):
    words = ["train", "-m", "--cfg", *train_words[1:], f"run.dir={tmp_path}"]
    assert main([*words, "loss=mse,huber", "trainer.seed=range(0,3)"]) == 0
    jobs = capsys.readouterr().out.splitlines()
    assert len(jobs) == 6
    assert jobs[0].startswith("loss=mse,trainer.seed=0")
    assert list(tmp_path.iterdir()) == []


def test_every_job_is_validated_before_the_first_runs(train_words, tmp_path, capsys):
    words = ["train", "-m", *train_words[1:], f"run.dir={tmp_path}"]
    assert main([*words, "trainer.batch_size=2,none"]) == 2
    assert "trainer.batch_size=none: expected an integer" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_multirun_without_several_values_is_a_mistake(train_words, capsys):
    assert main(["train", "-m", *train_words[1:]]) == 2
    assert "model.channels=16,32" in capsys.readouterr().err
