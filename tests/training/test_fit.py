"""`fit` as a user sees it: it learns, keeps the right weights, stops and resumes."""

import json
import os
import signal
import time

import jax
import numpy as np
import pytest
from flax import nnx

from mlip.errors import MlipError
from mlip.training.interrupt import Interrupted
from mlip.training.loop import fit
from mlip.training.loss import LossSettings
from mlip.training.schedule import ScheduleSettings
from mlip.training.settings import SecondStageSettings
from tests.support.training import fit_arguments, toy_run


class Witness:
    """A silent reporter that remembers, and acts at a given step."""

    def __init__(self, at=None, action=lambda: None):
        self.notices, self.validations = [], []
        self._at, self._action = at, action

    def notice(self, text):
        self.notices.append(text)

    def training(self, status, errors):
        if status.step == self._at:
            self._action()

    def validation(self, status, row, best):
        self.validations.append((status, row, best))

    def close(self):
        pass


def train(run_dir, *, reporter=None, **changes):
    """Train the toy; keyword arguments of the trainer, or whole settings of another group."""
    groups = {k: changes.pop(k) for k in ("loss", "schedule", "optimizer") if k in changes}
    arguments = {**fit_arguments(run_dir, **changes), **groups}
    return fit(*toy_run(), reporter=reporter or Witness(), **arguments)


def weights(result):
    leaves = jax.tree.leaves(nnx.state(result.model, nnx.Param))
    return [np.asarray(leaf) for leaf in leaves]


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(weights(a), weights(b), strict=True))


def rows(run_dir, kind):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 epochs (60 steps) that is never interrupted, its folder and its reporter."""
    folder, reporter = tmp_path_factory.mktemp("whole"), Witness()
    return train(folder, max_epochs=12, reporter=reporter), folder, reporter


def test_it_learns(whole):
    _, folder, _ = whole
    first, *_, last = rows(folder, "valid")
    assert first["step"] == 0
    assert last["step"] == 60
    assert last["forces_rmse_mev_per_a"] < 0.5 * first["forces_rmse_mev_per_a"]


def test_the_result_says_where_it_stands(whole):
    result, _, _ = whole
    assert (result.step, result.epoch, result.stopped_by) == (60, 12, "max_epochs")
    losses = {row["step"]: row["loss"] for row in result.history if row["kind"] == "valid"}
    assert result.best_loss == min(losses.values()) == losses[result.best_step]
    assert result.timing.train_step_ms > 0
    assert result.timing.seconds > result.timing.compile_seconds > 0


def test_each_shape_is_compiled_once(whole):
    result, folder, reporter = whole
    assert sorted(c.function for c in result.compilations) == ["eval_step", "train_step"]
    events = [row for row in rows(folder, "event") if row["event"] == "compile"]
    assert len(events) == 2
    told = [text for text in reporter.notices if "Compiling" in text]
    assert len(told) == 2
    assert all(text.endswith("edges (the first batch) …") for text in told)


def test_rows_have_the_fields_of_the_report(whole):
    _, folder, _ = whole
    last = rows(folder, "train")[-1]
    assert {"epoch", "step", "seconds", "lr", "loss", "step_ms", "epoch_seconds"} <= last.keys()
    assert last["epoch"] == 12.0
    start = rows(folder, "event")[0]
    assert start["event"] == "start"
    assert start["num_parameters"] == 72
    assert start["padding_share"] > 0
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert header.startswith("kind,epoch,step,seconds")


def test_the_model_given_is_left_unchanged(tmp_path):
    model, train_batches, valid = toy_run()
    before = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    fit(model, train_batches, valid, reporter=Witness(), **fit_arguments(tmp_path, max_steps=2))
    after = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_finished_run_is_not_trained_again(whole):
    result, folder, _ = whole
    content = (folder / "metrics.jsonl").read_text()
    again = train(folder, max_epochs=12)
    assert same_bits(result, again)
    assert again.compilations == []
    assert (folder / "metrics.jsonl").read_text().startswith(content)


def test_best_and_last_weights(tmp_path):
    # A rate this high makes the loss worse before the end.
    settings = {"max_epochs": 4, "schedule": ScheduleSettings(name="constant")}
    optimizer = fit_arguments(tmp_path)["optimizer"].model_copy(update={"lr": 0.3})
    best = train(tmp_path / "run", **settings, optimizer=optimizer)
    last = train(tmp_path / "run", **settings, optimizer=optimizer, keep="last")
    assert best.best_step < best.step
    assert not same_bits(best, last)


def test_a_signal_saves_and_the_resumed_run_ends_bitwise_equal(whole, tmp_path):
    uninterrupted, folder, _ = whole
    for number, step in ((signal.SIGTERM, 7), (signal.SIGINT, 33)):
        reporter = Witness(step, lambda number=number: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as stop:
            train(tmp_path, max_epochs=12, reporter=reporter)
        assert stop.value.code == 128 + number
        assert "Start the same command again" in str(stop.value)
        assert reporter.notices.count(str(stop.value)) == 1
        assert any(text.startswith("Stopping after the step") for text in reporter.notices)
    reporter = Witness()
    resumed = train(tmp_path, max_epochs=12, reporter=reporter)
    assert "Resuming from the checkpoint of step 3" in reporter.notices[0]
    assert same_bits(uninterrupted, resumed)
    keys = ("step", "epoch", "lr", "loss")
    assert [[row[key] for key in keys] for row in rows(tmp_path, "valid")] == [
        [row[key] for key in keys] for row in rows(folder, "valid")
    ]
    train_steps = [row["step"] for row in rows(tmp_path, "train")]
    assert len(set(train_steps)) == len(train_steps)


def test_a_longer_limit_continues_a_finished_run(tmp_path):
    short = train(tmp_path, max_steps=4, schedule=ScheduleSettings(name="constant"))
    reporter = Witness()
    schedule = ScheduleSettings(name="constant")
    longer = train(tmp_path, max_steps=7, schedule=schedule, reporter=reporter)
    assert (short.step, longer.step) == (4, 7)
    assert any("max_steps was 4, now 7" in text for text in reporter.notices)


def test_second_stage_changes_the_weights_without_compiling_again(tmp_path):
    second = SecondStageSettings(start=0.5, energy_weight=1000.0)
    result = train(tmp_path, max_steps=20, second_stage=second)
    events = [row for row in rows(tmp_path, "event") if row["event"] == "stage"]
    assert [(row["step"], row["name"]) for row in events] == [(10, "second stage")]
    assert len(result.compilations) == 2
    assert result.best_step > 10


def test_early_stopping(tmp_path):
    # A rate this high makes the loss worse after a while.
    optimizer = fit_arguments(tmp_path)["optimizer"].model_copy(update={"lr": 0.3})
    result = train(tmp_path, max_epochs=50, early_stopping=2, optimizer=optimizer)
    assert result.stopped_by == "early_stopping"
    assert result.epoch < 50
    steps = [row["step"] for row in rows(tmp_path, "valid")]
    assert steps.index(result.best_step) == len(steps) - 3


def test_minutes_limit_the_whole_run_and_the_rate_ends_with_it(tmp_path):
    start = time.monotonic()
    result = train(tmp_path, max_minutes=0.1, schedule=ScheduleSettings(end_factor=0.1))
    assert result.stopped_by == "max_minutes"
    assert time.monotonic() - start < 20.0
    last = rows(tmp_path, "valid")[-1]
    assert last["step"] == result.step > 0
    assert last["seconds"] == pytest.approx(6.0, abs=2.0) or result.timing.compile_seconds > 6.0
    assert last["lr"] == pytest.approx(0.001, rel=0.1)


def test_minutes_that_do_not_suffice_for_a_step_are_an_error(tmp_path):
    with pytest.raises(MlipError, match="over before the first training step"):
        train(tmp_path, max_minutes=1e-7)


def test_validation_every_so_many_steps(tmp_path):
    train(tmp_path, max_steps=9, validate_steps=4)
    assert [row["step"] for row in rows(tmp_path, "valid")] == [0, 4, 8, 9]


def test_training_without_validation(tmp_path):
    model, batches, _ = toy_run()
    arguments = fit_arguments(tmp_path, max_steps=3, keep="last")
    result = fit(model, batches, None, reporter=Witness(), **arguments)
    assert result.best_loss is None
    assert result.step == 3


def test_energies_alone_can_be_trained(tmp_path):
    loss = LossSettings(forces_weight=0.0)
    result = train(tmp_path, max_steps=3, loss=loss)
    assert np.isfinite(result.best_loss)


def test_double_precision(tmp_path):
    from tests.support.training import PairModel, batches, clusters

    source = batches(clusters(4), shuffle=True, dtype="float64")
    arguments = fit_arguments(tmp_path, max_steps=3, keep="last", precision="float64")
    result = fit(PairModel(dtype="float64"), source, None, reporter=Witness(), **arguments)
    assert {leaf.dtype.name for leaf in weights(result)} == {"float64"}
