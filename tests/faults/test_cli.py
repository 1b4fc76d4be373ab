"""What goes wrong at the command line is one clear message, exit status 2, and nothing lost."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.io import read, write

import mlip
from mlip.cli.evaluate import _files
from mlip.cli.main import main
from mlip.cli.resolvers import dataset_folder
from mlip.cli.schema import EvaluateConfig
from mlip.errors import MlipError
from mlip.io.saved_model import save
from tests.support.cli import labelled
from tests.support.training import clusters

pytest_plugins = ("tests.support.cli",)


def failure(words, capsys):
    """The message of a command that must fail as a user's mistake."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("mlip: error: ")
    return captured.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "model=mcae"], ["model=mcae", "Did you mean mace?"]),
        (["train", "model.chanels=64"], ["model.chanels=64", "Did you mean model.channels?"]),
        (["train", "experiment=quikstart"], ["experiment=quikstart", "Did you mean quickstart?"]),
        (["train", "model.name=nequip"], ["chosen by model=nequip"]),
        (
            ["train", "model=nequip", "tensor_product@model.product=so2"],
            ["tensor_product@model.product=so2", "has no model.product"],
        ),
        (["train", "model.channels"], ["'model.channels'", "expected key=value"]),
        (["train", "model.channels=[1"], ["model.channels=[1", "balanced quotes and brackets"]),
        (["train", "model.channels=1,2"], ["--multirun"]),
        (["train", "nowhere.yaml"], ["nowhere.yaml was not found"]),
        (
            ["train", "model.convolution=so2"],
            ["'model.convolution=so2'", "write tensor_product@model.convolution=so2."],
        ),
        (
            ["train", "tensor_product=so2"],
            ["tensor_product@model.convolution=so2 or tensor_product@model.product=so2."],
        ),
        (
            ["train", "model=escn", "tensor_product@model.convolution=so2"],
            ["model=escn has no model.convolution; it has tensor_product@model.product."],
        ),
        (
            ["train", "tensor_product@model.convolution=gaunt"],
            ["Did you mean gaunt_fourier, gaunt_grid or gaunt_quadrature?"],
        ),
        (
            ["benchmark", "tensor-products", "--quick", "preset=full"],
            ["--quick means preset=quick, and preset=full was given as well"],
        ),
        (["md", "md.ensemble=nvt"], ["md.ensemble=nvt", "Did you mean langevin?"]),
        (["train", "trainer.max_epochs=none"], ["For none write trainer.max_epochs=null."]),
        (["train", "trainer.max_epochs", "=", "5"], ["Write trainer.max_epochs=5 without spaces"]),
        (["train", "trainer.max_epochs=", "5"], ["Write trainer.max_epochs=5 without a space"]),
        (["train", "trainer.max_epochs = 5"], ["write trainer.max_epochs=5 without spaces"]),
        (["train", "a/my.xyz"], ["give the file as dataset.train=a/my.xyz."]),
        (["md", "a/my.xyz"], ["give the file as structure=a/my.xyz."]),
        (["md", "a"], ["give the saved model as model=a/model.mlip."]),
        (["md", "model=a"], ["a is a folder, expected a file (its model is a/model.mlip)"]),
        (["info", "model=a"], ["a is a folder, expected a file (its model is a/model.mlip)"]),
        (["train", "model=a"], ["continued from by init_from=a/model.mlip"]),
        (["trian"], ["Unknown verb 'trian'", "Did you mean train?"]),
        (["info", "model=nowhere.mlip"], ["nowhere.mlip was not found"]),
        (["train", "run.name=${nothing}"], ["nothing"]),
        (["train", "dataset.train=nowhere.xyz"], ["nowhere.xyz", "does not exist"]),
        (
            ["train", "schedule=constant", "schedule.end_factor=0.1"],
            ["schedule: end_factor=0.1 would have no effect", "name=cosine and exponential"],
        ),
        (
            ["train", "schedule.patience=5", "schedule.factor=0.5"],
            ["schedule: factor=0.5 would have no effect (only for name=plateau)"],
        ),
        (
            ["train", "loss=l1", "loss.huber_delta=0.1"],
            ["loss: huber_delta=0.1 would have no effect (only for kind=huber)"],
        ),
    ],
)
def test_mistakes_on_the_command_line(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("my.xyz", "model.mlip"):
        (tmp_path / "a" / name).touch()
    message = failure(words, capsys)
    for part in parts:
        assert part in message
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("key", ["model.lmaxx", "Model.lmax", "trainer.batchsize", "dataset.vald"])
def test_misspelt_keys_are_always_answered_with_a_key_that_exists(key, capsys):
    words = ["train", "experiment=quickstart"]
    message = failure([*words, f"{key}=1"], capsys)
    suggestion = re.search(r"Did you mean (\S+)\?", message).group(1)
    accepted = failure([*words, f"{suggestion}=[no, such, thing]"], capsys)
    assert "Unknown key" not in accepted


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("MLIP_TRACEBACK", "1")
    with pytest.raises(MlipError, match="mcae"):
        main(["train", "model=mcae"])


def test_label_key_that_is_not_there(train_words, tmp_path, capsys):
    words = [*train_words, f"run.dir={tmp_path}", "dataset.keys.energy=REF_energy"]
    message = failure(words, capsys)
    assert "REF_energy" in message
    assert "keys present" in message
    assert main([*words, "--cfg"]) == 0


def test_a_loss_on_labels_that_are_not_there(train_words, tmp_path, capsys):
    words = [*train_words, f"run.dir={tmp_path}"]
    message = failure([*words, "loss.stress_weight=100"], capsys)
    assert "loss.stress_weight=100 but none of the 14 training frames has a stress" in message
    e0 = "dataset.e0={H: -13.6, O: -2041.8}"
    message = failure([*words, e0, "dataset.keys.energy=null", "dataset.keys.forces=null",
                       "dataset.isolated_atoms=null"], capsys)  # fmt: skip
    assert "loss.energy_weight=1 but none" in message
    assert not (tmp_path / "config.yaml").exists()


def test_element_of_the_model_without_e0(train_words, tmp_path, capsys):
    words = [*train_words, f"run.dir={tmp_path}", "+model.elements=[1,8,16]"]
    message = failure(words, capsys)
    assert "model.elements names S, for which there is no E0" in message
    for wrong in ("[1,1,8]", "[8,1]", "[0,8]", "[1,8,119]"):
        message = failure(["train", f"model.elements={wrong}", "--cfg"], capsys)
        assert "atomic numbers from 1 to 118, ascending, each once" in message


def test_label_key_of_evaluate(trained, data_folder, tmp_path, capsys):
    words = ["evaluate", f"model={trained}/model.mlip", f"run.dir={tmp_path}"]
    message = failure([*words, f"data={data_folder}/test.xyz", "keys.energy=energi"], capsys)
    assert "did you mean keys.energy=energy?" in message
    for verb in ("prepare", "convert"):
        words = ["data", verb, f"data={data_folder}/test.xyz", f"output={tmp_path}/out.lmdb"]
        message = failure([*words, "keys.energy=energi"], capsys)
        assert "did you mean keys.energy=energy?" in message


def test_what_evaluate_reads_is_described_like_other_data(trained, data_folder, tmp_path, capsys):
    frames = read(data_folder / "test.xyz", ":")
    for atoms in frames:
        atoms.set_constraint(FixAtoms([0]))
    frames[2].positions[0] = frames[2].positions[1]
    columns = ["symbols", "positions", "forces", "move_mask"]
    write(tmp_path / "some.xyz", frames, format="extxyz", columns=columns)
    text = (tmp_path / "some.xyz").read_text()
    (tmp_path / "some.xyz").write_text(text.replace("energy=", "energy=n", 1))
    words = ["evaluate", f"model={trained}/model.mlip", f"run.dir={tmp_path}/run"]
    words += [f"data={tmp_path}/some.xyz", "format=extxyz"]
    assert "count them, set on_bad_record=skip" in failure(words, capsys)
    assert main([*words, "on_bad_record=skip", "mask_fixed=true"]) == 0
    assert "left out 2 of 6 records that cannot be used" in capsys.readouterr().out
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        masked = np.isnan(arrays["some/forces_reference"]).all(axis=1)
    assert masked.sum() == 4


def test_evaluate_leaves_out_frames_of_large_data(
    trained, data_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("mlip.data.dataset.STREAM_ABOVE", 3)
    frames = read(data_folder / "test.xyz", ":")
    frames[1].symbols[0] = "S"
    frames[4].positions[1] = frames[4].positions[0]
    write(tmp_path / "large.xyz", frames)
    words = ["evaluate", f"model={trained}/model.mlip", f"data={tmp_path}/large.xyz"]
    message = failure([*words, f"run.dir={tmp_path}/refused"], capsys)
    assert re.search(r"large\.xyz#[14]: .* set on_bad_record=skip", message)
    assert main([*words, f"run.dir={tmp_path}/run", "on_bad_record=skip"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out 2 records that cannot be used, beginning with" in printed
    for fault in (r"large\.xyz#1: element S is not known", r"large\.xyz#4: atoms 0 and 1 are"):
        assert re.search(fault, printed)
    (errors,) = json.loads((tmp_path / "run" / "evaluation.json").read_text()).values()
    assert (errors["num_structures"], errors["skipped_records"]) == (4, 2)


def test_energies_of_another_kind_are_not_evaluated(data_folder):
    settings = EvaluateConfig(
        model=data_folder / "train.xyz",
        data={"a": "a.xyz"},
        run={"name": "a", "dir": "a"},
        energy_reference="referenced",
    )
    with pytest.raises(MlipError, match="energy_reference=referenced, but the model was trained"):
        _files(settings, "total")


def test_options_that_would_have_no_effect(trained, data_folder, tmp_path, capsys):
    model, start = f"model={trained}/model.mlip", f"structure={data_folder}/start.xyz"
    run = f"run.dir={tmp_path}/run"
    for words, expected in (
        (["relax", "relax.pressure=1"], "relax: pressure=1.0 would have no effect"),
        (["md", "md.pressure=1"], "md: pressure=1.0 would have no effect (only for ensemble=npt)"),
        (["md", "md.ensemble=langevin", "md.barostat_time=2"], "md: barostat_time=2.0 would"),
        (["md", "md.friction=1"], "md: friction=1.0 would have no effect"),
    ):
        assert expected in failure([*words, model, start, run], capsys)
    words = ["evaluate", model, run, "dataset=quickstart", "keys.energy=REF_energy"]
    assert "give them as dataset.keys" in failure(words, capsys)
    words = ["evaluate", model, run, "dataset=quickstart", "mask_fixed=true"]
    assert "give them as dataset.mask_fixed" in failure(words, capsys)
    for option in ("precision=float64", "batch_size=7", "dataset.split_seed=3"):
        name = option.partition("=")[0].partition(".")[0]
        message = failure(["info", model, option], capsys)
        assert f"{name} would have no effect on the saved model" in message
    assert not (tmp_path / "run").exists()


def test_run_folder_that_cannot_be_made(train_words, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    message = failure([*train_words, f"run.dir={tmp_path}/file/run"], capsys)
    assert "cannot be written to" in message
    assert "run.dir=" in message


def test_full_disk(train_words, tmp_path, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlip.cli.run_folder.tempfile.TemporaryFile", full)
    assert "No space left on device" in failure([*train_words, f"run.dir={tmp_path}/a"], capsys)


def test_folder_of_another_config_is_left_as_it_was(train_words, data_folder, tmp_path, capsys):
    words = [*train_words, f"run.dir={tmp_path}", "trainer.max_epochs=1"]
    words += ["dataset.valid=test.xyz@:2", "dataset.tests={hot: test.xyz@4:}"]
    assert main(words) == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    message = failure([*words, "optimizer.lr=0.005"], capsys)
    assert "optimizer.lr" in message
    assert "0.005" in message
    message = failure([*words, "dataset.valid=test.xyz@2:4"], capsys)
    assert "data.validation structures was" in message
    model = [f"model={tmp_path}/model.mlip", f"run.dir={tmp_path}"]
    message = failure(["evaluate", *model, f"data={data_folder}/test.xyz"], capsys)
    assert "holds the results of mlip train, which mlip evaluate would partly overwrite" in message
    message = failure(["md", *model, f"structure={data_folder}/start.xyz"], capsys)
    assert "which mlip md would" in message
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before
    assert "resume=false" in failure([*words, "resume=false"], capsys)


def test_not_a_saved_model(data_folder, capsys, tmp_path):
    model = tmp_path / "model.mlip"
    model.write_text("no zip")
    words = [f"model={model}", f"run.dir={tmp_path}/run"]
    message = failure(["evaluate", *words, f"data={data_folder}/test.xyz"], capsys)
    assert "model.mlip" in message
    message = failure(["train", f"init_from={model}", "dataset.train=x.xyz"], capsys)
    assert "is not a saved model" in message


def test_fine_tuning_on_another_kind_of_energies(trained, train_words, tmp_path, capsys):
    """It is told, and E0 of the two kinds are never used together."""
    potential = mlip.load(trained / "model.mlip")
    potential.metadata["data"]["energy_reference"] = "total"
    save(potential, tmp_path / "total.mlip")
    without = ("model=", "dataset.isolated_atoms=")
    words = [word for word in train_words if not word.startswith(without)]
    words += [f"init_from={tmp_path}/total.mlip", "dataset.e0=least_squares"]
    words += ["dataset.energy_reference=referenced", f"run.dir={tmp_path}/run"]
    told = "was trained on total energies, the training data hold referenced ones"
    assert main([*words, "trainer.max_steps=1", "trainer.max_epochs=null"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())
    assert told in (tmp_path / "run" / "metrics.jsonl").read_text()

    hydrogen = [replace(s, numbers=np.ones_like(s.numbers)) for s in clusters(6)]
    write(tmp_path / "hydrogen.xyz", [labelled(structure) for structure in hydrogen])
    words = [*words, f"dataset.train={tmp_path}/hydrogen.xyz", f"run.dir={tmp_path}/other"]
    message = failure([*words, "dataset.tests={}"], capsys)
    assert told in message
    assert "there are no others for O; give the energies of all elements" in message


@pytest.mark.parametrize(
    ("content", "index", "expected"),
    [("1\n\nH 0 0 0\n", 3, "has no frame 3"), ("garbage", -1, "cannot be read as a structure")],
)
def test_structure_that_cannot_be_read(trained, tmp_path, capsys, content, index, expected):
    start = tmp_path / "start.xyz"
    start.write_text(content)
    words = [f"model={trained}/model.mlip", f"structure={start}", f"index={index}"]
    assert expected in failure(["md", *words, f"run.dir={tmp_path}/md"], capsys)


def test_interrupt_outside_of_training_is_quiet(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlip.cli.compose.compose", interrupted)
    assert main(["train", "--cfg"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_answered_and_the_command_says_that_it_goes_on(monkeypatch, capsys, tmp_path):
    def run(settings):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("mlip.cli.data_prepare.run", run)
    assert main(["data", "prepare", "data=a.xyz", f"output={tmp_path}/a.lmdb"]) == 130
    said = capsys.readouterr().err
    assert said.index("press Ctrl-C again to leave at once") < said.index(
        "the same command goes on"
    )


def test_ctrl_c_is_answered_by_a_busy_process_and_leaves_at_once_the_second_time(root):
    code = (
        "import hashlib\n"
        "from mlip.training.interrupt import InterruptWatch\n"
        "with InterruptWatch(lambda _: print('stopping', flush=True), lambda: print('left')):\n"
        "    print('busy', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)  # as deaf as a compilation\n"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stdout.read() == "left\n"


def test_sigterm_saves_and_the_same_command_goes_on(train_words, tmp_path, root, capsys):
    words = [*train_words, f"run.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlip.cli.main", *words, "trainer.max_epochs=100000"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        deadline = time.monotonic() + 300
        metrics = tmp_path / "metrics.jsonl"
        while not (metrics.is_file() and '"train"' in metrics.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert output.count("all is saved") == 1
    assert output.index("Stopping after the step") < output.index("Stopped by SIGTERM")
    step = int(re.search(r"at step (\d+)", output).group(1))
    assert main([*words, "trainer.max_epochs=100000", f"trainer.max_steps={step + 1}"]) == 0
    assert f"step {step}" in capsys.readouterr().out


def test_a_sample_that_is_not_installed_is_said_to_be_in_a_clone():
    with pytest.raises(MlipError, match=r"oc20_maxi was not found.*datasets/oc20_maxi of a clone"):
        dataset_folder("oc20_maxi")
