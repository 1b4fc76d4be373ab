"""Checkpoints are whole, verified and of the same run."""

import shutil

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.training.checkpoints import Checkpoints

SETTINGS = {"loss": {"kind": "mse"}, "trainer": {"max_epochs": 5}, "model": {"mlp": (64, 64)}}
ARRAYS = {
    "params.layers.0.w": np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32),
    "step": np.asarray(3, np.int32),
    "failed": np.asarray(False),
}
META = {"settings": SETTINGS, "book": {"seconds": 0.1 + 0.2, "epoch": 1}, "metrics_position": 17}


@pytest.fixture
def opened(tmp_path):
    """A function that opens the same folder of checkpoints again and again, and the notices."""
    notices, made = [], []

    def open_again(keep=3):
        made.append(Checkpoints(tmp_path / "checkpoints", keep, notices.append))
        return made[-1]

    yield open_again, notices
    for checkpoints in made:
        checkpoints.close()


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(step, ARRAYS, META)
    checkpoints.wait()


def test_what_is_read_is_bitwise_what_was_saved(opened):
    open_again, notices = opened
    save(open_again(), 3)
    saved = open_again().newest(SETTINGS, set())
    assert saved.step == 3
    assert saved.arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert saved.arrays[name].dtype == value.dtype
        assert saved.arrays[name].tobytes() == value.tobytes()
    assert saved.meta["book"] == META["book"]
    assert saved.meta["metrics_position"] == 17
    assert notices == []


def test_nothing_to_resume_in_a_new_folder(opened):
    assert opened[0]().newest(SETTINGS, set()) is None


def test_only_the_newest_are_kept(opened, tmp_path):
    checkpoints = opened[0](keep=2)
    save(checkpoints, 1, 2, 3, 4)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]


def test_saving_a_step_twice_leaves_the_first(opened):
    checkpoints = opened[0]()
    save(checkpoints, 3)
    checkpoints.save(3, ARRAYS, {**META, "metrics_position": 99})
    assert checkpoints.newest(SETTINGS, set()).meta["metrics_position"] == 17


def test_settings_of_another_run_are_named(opened):
    open_again, _ = opened
    save(open_again(), 3)
    other = {"loss": {"kind": "huber"}, "trainer": {"max_epochs": 5}, "model": {"mlp": (64, 32)}}
    with pytest.raises(MlipError, match=r"loss.kind was 'mse', now 'huber'; model.mlp was \[64"):
        open_again().newest(other, set())


def test_settings_that_may_change_are_told(opened):
    open_again, notices = opened
    save(open_again(), 3)
    longer = {**SETTINGS, "trainer": {"max_epochs": 9}}
    assert open_again().newest(longer, {"trainer.max_epochs"}).step == 3
    assert "trainer.max_epochs was 5, now 9" in notices[0]


def damage_truncate(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:-20])


def damage_flip(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0x55
            path.write_bytes(content)


def damage_state(folder):
    shutil.rmtree(folder / "state")


def damage_meta(folder):
    (folder / "meta" / "metadata").write_text('{"settings": ')


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_state, damage_meta])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(opened, tmp_path, damage):
    open_again, notices = opened
    save(open_again(), 3, 6)
    damage(tmp_path / "checkpoints" / "6")
    reopened = open_again()
    assert reopened.newest(SETTINGS, set()).step == 3
    assert "Checkpoint 6 is damaged and skipped (kept as 6.damaged)" in notices[0]
    save(reopened, 6)
    assert open_again().newest(SETTINGS, set()).step == 6


def test_a_half_written_checkpoint_does_not_count(opened, tmp_path):
    open_again, _ = opened
    save(open_again(), 3)
    shutil.copytree(
        tmp_path / "checkpoints" / "3", tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    )
    assert open_again().newest(SETTINGS, set()).step == 3


def test_with_every_checkpoint_damaged_the_user_decides(opened, tmp_path):
    open_again, _ = opened
    save(open_again(), 3)
    damage_truncate(tmp_path / "checkpoints" / "3")
    with pytest.raises(MlipError, match=r"none of the 1 checkpoints .* can be read"):
        open_again().newest(SETTINGS, set())
    assert open_again().newest(SETTINGS, set()) is None
