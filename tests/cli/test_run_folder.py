import sys

import pytest

from mlip.cli.run_folder import LOCK, has_checkpoints, open_run_folder, write_json
from mlip.errors import MlipError


def opened(folder, command="train", **options):
    with open_run_folder(folder, command, **options):
        return sorted(path.name for path in folder.iterdir())


def test_folder_is_made_and_may_be_reopened(tmp_path):
    folder = tmp_path / "runs" / "a"
    opened(folder)
    (folder / "notes.txt").write_text("mine")
    assert opened(folder) == [LOCK, "notes.txt"]


def test_resume_false_starts_only_in_an_empty_folder(tmp_path):
    folder = tmp_path / "a"
    opened(folder, resume=False)
    opened(folder, resume=False)
    (folder / "metrics.jsonl").touch()
    with pytest.raises(MlipError, match=r"not empty and resume=false.*run\.name"):
        opened(folder, resume=False)


def test_a_folder_keeps_the_results_of_one_verb(tmp_path):
    opened(tmp_path, "md")
    opened(tmp_path, "relax")  # nothing was written
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
