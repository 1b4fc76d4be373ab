"""Faults while data are streamed: killed workers, damaged records, signals."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from mlip.data.frames import Frames, Part
from mlip.data.streaming import StreamedBatches
from mlip.errors import MlipError
from mlip.training.loop import fit
from tests.support.sources import E0, ELEMENTS, MadeUp
from tests.support.training import PairModel, fit_arguments

SIZE = 150


def stream(*, bad=(), skip=False, workers=1) -> StreamedBatches:
    frames = Frames([Part(MadeUp(SIZE, bad=bad), range(SIZE))], skip_bad=skip)
    sample = list(Frames([Part(MadeUp(30), range(30))]))
    return StreamedBatches(
        frames, sample, cutoff=3.0, elements=ELEMENTS, e0=E0, batch_size=4, workers=workers
    )


def children() -> set[int]:
    """Worker processes of this process."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if (
                int(status[1]) == os.getpid()
                and b"mlip.data.worker" in (folder / "cmdline").read_bytes()
            ):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


@needs_proc
def test_a_killed_worker_is_one_clear_error():
    batches = stream().epoch(0)
    next(batches)
    (worker,) = children()
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(MlipError, match=rf"process {worker}\) was killed by SIGKILL") as error:
        list(batches)
    assert "dataset.workers" in str(error.value)


@needs_proc
def test_a_run_whose_worker_is_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    kept = fit(PairModel(), stream(), None, **_last(fit_arguments(tmp_path / "kept", max_epochs=2)))
    batches = stream()
    made = batches.stream

    def killed(epoch: int, start: int = 0):
        for number, batch in enumerate(made(epoch, start)):
            if number == 50:
                (worker,) = children()
                os.kill(worker, signal.SIGKILL)
            yield batch

    batches.stream = killed
    arguments = _last(fit_arguments(tmp_path / "killed", max_epochs=2))
    with pytest.raises(MlipError, match="was killed by SIGKILL"):
        fit(PairModel(), batches, None, **arguments)
    assert int(next((tmp_path / "killed" / "checkpoints").iterdir()).name) >= 50
    resumed = fit(PairModel(), stream(), None, **arguments)
    assert resumed.step == kept.step == 76
    left, right = (jax.tree.leaves(nnx.state(run.model)) for run in (kept, resumed))
    for before, after in zip(left, right, strict=True):
        np.testing.assert_array_equal(before, after)


@needs_proc
def test_signals_to_all_processes_reach_the_main_one_only_and_no_worker_outlives_it():
    batches = stream().epoch(0)
    next(batches)
    (worker,) = children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
    assert len(list(batches)) == 37
    again = stream().epoch(0)
    next(again)
    assert children()
    again.close()
    assert not children()


def test_a_damaged_record_stops_the_run_with_all_steps_saved(tmp_path):
    batches = stream(bad=(17,), workers=0)
    arguments = fit_arguments(tmp_path, max_epochs=2)
    with pytest.raises(MlipError, match=r"made_up#17: .* set dataset\.on_bad_record=skip"):
        fit(PairModel(), batches, None, **_last(arguments))
    steps = [int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()]
    found = [batch.skipped for batch in stream(bad=(17,), skip=True, workers=0).epoch(0)]
    (window,) = [number for number, skipped in enumerate(found) if skipped]
    assert max(steps, default=0) == window


def test_an_element_that_no_sample_showed_stops_a_run_that_goes_on_without_its_frames(tmp_path):
    class Rare(MadeUp):
        def __getitem__(self, index):
            structure = super().__getitem__(index)
            numbers = np.full_like(structure.numbers, 16) if index == 17 else structure.numbers
            return dataclasses.replace(structure, numbers=numbers)

    def batches(*, skip: bool) -> StreamedBatches:
        frames = Frames([Part(Rare(SIZE), range(SIZE))], skip_bad=skip)
        sample = list(Frames([Part(MadeUp(30), range(30))]))
        return StreamedBatches(
            frames, sample, cutoff=3.0, elements=ELEMENTS, e0=E0, batch_size=4, seed=1, workers=0
        )

    (window,) = [n for n, batch in enumerate(batches(skip=True).epoch(0)) if batch.skipped]
    arguments = _last(fit_arguments(tmp_path, max_epochs=2))
    with pytest.raises(MlipError, match=r"element S is not .* set dataset\.on_bad_record=skip"):
        fit(PairModel(), batches(skip=False), None, **arguments)
    steps = [int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()]
    assert max(steps, default=0) == window
    result = fit(PairModel(), batches(skip=True), None, **arguments)
    assert result.epoch == 2
    assert result.skipped_records == 2


def test_data_that_fail_in_a_validation_stop_the_run_with_all_steps_saved(tmp_path, monkeypatch):
    train, valid = stream(workers=0), stream(workers=0)
    epochs = iter((valid.epoch, stream(bad=(17,), workers=0).epoch))  # before training, after it
    monkeypatch.setattr(valid, "epoch", lambda epoch: next(epochs)(epoch))
    with pytest.raises(MlipError, match="made_up#17: "):
        fit(PairModel(), train, valid, **fit_arguments(tmp_path, max_epochs=2))
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["38"]


def test_damaged_records_are_counted_on_request(tmp_path):
    batches = stream(bad=(17, 18), skip=True, workers=0)
    result = fit(PairModel(), batches, None, **_last(fit_arguments(tmp_path, max_epochs=2)))
    assert result.skipped_records == 4
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    faults = [fault for row in rows for fault in row.get("faults", [])]
    assert {fault.partition(":")[0] for fault in faults} == {"made_up#17", "made_up#18"}
    assert result.epoch == 2


def test_damaged_records_of_the_validation_data_are_counted_too(tmp_path):
    valid = stream(bad=(17,), skip=True, workers=0)
    result = fit(PairModel(), stream(workers=0), valid, **fit_arguments(tmp_path, max_steps=2))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    skipped = [row for row in rows if row.get("event") == "skipped_records"]
    assert {row["faults"][0].partition(":")[0] for row in skipped} == {"made_up#17"}
    assert result.skipped_records == len(skipped) == 2  # before the training and at its end


def test_a_mistake_in_a_worker_shows_where_it_happened():
    class Broken(MadeUp):
        def __getitem__(self, index):
            raise AssertionError("no such thing")

    frames = Frames([Part(Broken(SIZE), range(SIZE))])
    sample = list(Frames([Part(MadeUp(30), range(30))]))
    batches = StreamedBatches(
        frames, sample, cutoff=3.0, elements=ELEMENTS, e0=E0, batch_size=4, workers=0
    )
    with pytest.raises(AssertionError, match="no such thing"):
        next(batches.epoch(0))


def _last(arguments):
    trainer = arguments["trainer"].model_copy(update={"keep": "last"})
    return {**arguments, "trainer": trainer}
