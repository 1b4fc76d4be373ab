from pathlib import Path

import pytest

from mlip.cli.arguments import parse
from mlip.errors import MlipError


def test_overrides_flags_and_a_file_in_any_order(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("trainer: {max_epochs: 3}\n")
    arguments = parse(["train", "a.b=1", "--cfg", str(file), "-m", "~c"])
    assert arguments.verb.name == "train"
    assert arguments.file == file
    assert arguments.overrides == ("a.b=1", "~c")
    assert arguments.show_config
    assert arguments.multirun
    assert not arguments.show_help


@pytest.mark.parametrize("form", [["--cfg"], ["--cfg", "job"], ["-c", "job"]])
def test_forms_of_cfg(form):
    assert parse(["train", *form, "x=1"]).overrides == ("x=1",)
    assert parse(["train", *form]).show_config


def test_no_word_at_all_is_help():
    assert parse([]).show_help


def test_two_word_verb():
    assert parse(["benchmark", "model", "steps=10"]).verb.name == "benchmark model"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "Unknown verb 'trian'.*Did you mean train?"),
        (["train", "--confg"], "Unknown flag --confg"),
        (["train", "model.channels", "64"], "Cannot read 'model.channels': expected key=value"),
        (["train", "missing.yaml"], "missing.yaml was not found"),
        (["benchmark", "modle"], "expected mlip benchmark model"),
    ],
)
def test_what_cannot_be_read_is_named(words, message):
    with pytest.raises(MlipError, match=message):
        parse(words)


def test_second_config_file_is_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("resume: true\n")
    with pytest.raises(MlipError, match=r"b\.yaml"):
        parse(["train", str(tmp_path / "a.yaml"), str(Path(tmp_path / "b.yaml"))])
