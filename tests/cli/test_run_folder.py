import sys

import pytest

from mlip.cli.run_folder import (
    LOCK,
    SUBJECT,
    file_with_hash,
    has_checkpoints,
    open_run_folder,
    require_subject,
    write_json,
)
from mlip.errors import MlipError


def opened(folder, command="train", **options):
    with open_run_folder(folder, command, **options):
        return sorted(path.name for path in folder.iterdir())


def test_folder_is_made_and_may_be_reopened(tmp_path):
    folder = tmp_path / "runs" / "a"
    with open_run_folder(folder, "train"):
        (folder / "notes.txt").write_text("mine")
    assert opened(folder) == [LOCK, "notes.txt"]


def test_a_command_that_writes_nothing_leaves_nothing(tmp_path):
    with pytest.raises(MlipError), open_run_folder(tmp_path / "runs" / "a" / "b", "train"):
        raise MlipError("refused")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    opened(tmp_path / "mine")
    opened(tmp_path / "mine" / "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_results_of_something_else_are_not_overwritten(tmp_path):
    model = tmp_path / "model.mlip"
    model.write_bytes(b"one")
    first = {"model": file_with_hash(model), "data": "test.xyz"}
    require_subject(tmp_path, first)
    write_json(tmp_path / SUBJECT, first)
    require_subject(tmp_path, first)
    model.write_bytes(b"another")
    with pytest.raises(MlipError, match=r"results of model=.*choose another run\.name"):
        require_subject(tmp_path, {**first, "model": file_with_hash(model)})
    with pytest.raises(MlipError, match=r"data=test\.xyz, which those of data=hot\.xyz would"):
        require_subject(tmp_path, {**first, "data": "hot.xyz"})


def test_resume_false_starts_only_in_an_empty_folder(tmp_path):
    folder = tmp_path / "a"
    opened(folder, resume=False)
    folder.mkdir()
    opened(folder, resume=False)
    (folder / "metrics.jsonl").touch()
    with pytest.raises(MlipError, match=r"not empty and resume=false.*run\.name"):
        opened(folder, resume=False)


def test_a_folder_keeps_the_results_of_one_verb(tmp_path):
    opened(tmp_path, "md")
    with open_run_folder(tmp_path, "relax"):  # nothing was written before
        (tmp_path / "relaxed.xyz").touch()
    with pytest.raises(MlipError, match=r"holds the results of mlip relax, which mlip train would"):
        opened(tmp_path, "train")
    opened(tmp_path, "relax")


def test_a_folder_of_training_is_known_by_its_checkpoints(tmp_path):
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    with pytest.raises(MlipError, match="holds the results of mlip train"):
        opened(tmp_path, "evaluate")
    opened(tmp_path, "train")


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks")
def test_one_command_at_a_time(tmp_path):
    with (
        open_run_folder(tmp_path, "train"),
        pytest.raises(MlipError, match=r"another mlip command is at work in .*choose another"),
    ):
        opened(tmp_path, "train")
    opened(tmp_path, "train")


def test_checkpoints_are_noticed(tmp_path):
    assert not has_checkpoints(tmp_path)
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    assert has_checkpoints(tmp_path)


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "a.json", {"Å": 1})
    assert (tmp_path / "a.json").read_text() == '{\n "Å": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
