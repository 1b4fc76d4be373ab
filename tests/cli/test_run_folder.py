import pytest

from mlip.cli.run_folder import has_checkpoints, open_run_folder, write_json
from mlip.errors import MlipError


def test_folder_is_made_and_may_be_reopened(tmp_path):
    folder = tmp_path / "runs" / "a"
    open_run_folder(folder)
    (folder / "notes.txt").write_text("mine")
    open_run_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt"]


def test_resume_false_starts_only_in_an_empty_folder(tmp_path):
    folder = tmp_path / "a"
    open_run_folder(folder, resume=False)
    open_run_folder(folder, resume=False)
    (folder / "metrics.jsonl").touch()
    with pytest.raises(MlipError, match=r"not empty and resume=false.*run\.name"):
        open_run_folder(folder, resume=False)


def test_checkpoints_are_noticed(tmp_path):
    assert not has_checkpoints(tmp_path)
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    assert has_checkpoints(tmp_path)


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "a.json", {"Å": 1})
    assert (tmp_path / "a.json").read_text() == '{\n "Å": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
