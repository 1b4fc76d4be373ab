import json

from mlip.cli.main import main

pytest_plugins = ("tests.support.cli",)


def test_each_job_has_its_own_folder_and_the_summary_names_all(train_words, tmp_path, capfd):
    words = ["train", "-m", *train_words[1:], f"run.dir={tmp_path}", "trainer.max_epochs=1"]
    assert main([*words, "trainer.seed=0,1"]) == 0
    evaluations = [
        json.loads((tmp_path / f"trainer.seed={seed}" / "evaluation.json").read_text())
        for seed in (0, 1)
    ]
    assert evaluations[0] != evaluations[1]
    summary = capfd.readouterr().out.rpartition("Sweep")[2]
    for seed, evaluation in enumerate(evaluations):
        assert f"trainer.seed={seed}" in summary
        assert f"{evaluation['hot']['forces_rmse_mev_per_a']:.1f}" in summary


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
