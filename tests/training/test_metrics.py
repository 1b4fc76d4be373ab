"""metrics.jsonl and metrics.csv."""

import csv
import json

import numpy as np
import pytest

from mlip.training.loss import LossMetrics
from mlip.training.metrics import MetricsLog, RunningErrors


def row(kind, step, **values):
    return {"kind": kind, "epoch": 1, "step": step, "seconds": 1.5, "loss": 0.1 * step, **values}


def events_of(file):
    """TensorBoard's events: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    content = file.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_errors_are_roots_of_means_over_all_labels():
    errors = RunningErrors()
    for structures, loss in ((4.0, 1.0), (1.0, 6.0)):
        metrics = LossMetrics(
            np.float32(structures), 0.09 * structures, structures, 3.0, 12.0, 0.0, 0.0, np.zeros(4)
        )
        errors.add(np.float32(loss), metrics)
    found = errors.row()
    assert found["loss"] == pytest.approx(2.0)
    assert found["energy_rmse_mev_per_atom"] == pytest.approx(300.0)
    assert found["forces_rmse_mev_per_a"] == pytest.approx(500.0)
    assert "stress_rmse_mev_per_a3" not in found


def test_rows_after_the_checkpoint_are_removed_on_resume(tmp_path):
    log = MetricsLog(tmp_path, None)
    log.write(row("train", 1))
    log.write({"kind": "event", "event": "compile", "step": 1})
    position = log.position
    log.write(row("train", 2))
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "ste')  # killed in the middle of a row
    log = MetricsLog(tmp_path, position)
    log.write(row("valid", 2, lr=0.1))
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["kind"], r["step"]) for r in rows] == [("train", 1), ("event", 1), ("valid", 2)]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(r["kind"], r["step"], r["lr"]) for r in table] == [
        ("train", "1", ""),
        ("valid", "2", "0.1"),
    ]


def test_a_new_run_starts_with_empty_files(tmp_path):
    log = MetricsLog(tmp_path, None)
    log.write(row("train", 1))
    log.close()
    log = MetricsLog(tmp_path, None)
    assert log.rows() == []
    log.close()


def test_tensorboard_files_on_request(tmp_path):
    pytest.importorskip("tensorboardX")
    log = MetricsLog(tmp_path, None, tensorboard=True)
    log.write(row("valid", 3, forces_rmse_mev_per_a=20.0))
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"valid/forces_rmse_mev_per_a" in file.read_bytes()


def test_tensorboard_shows_no_step_twice_after_a_resume(tmp_path):
    """By TensorBoard's own rule: a start mark voids what stands at its step and later."""
    pytest.importorskip("tensorboardX")
    log = MetricsLog(tmp_path, None, tensorboard=True)
    log.write(row("train", 1))
    log.write(row("valid", 1))
    position = log.position
    log.write(row("train", 2))
    log.close()
    (written,) = (tmp_path / "tensorboard").iterdir()
    first = written.rename(written.with_name("earlier"))  # the names count whole seconds
    log = MetricsLog(tmp_path, position, tensorboard=True)
    log.write(row("train", 2))
    log.close()
    (second,) = set((tmp_path / "tensorboard").iterdir()) - {first}
    shown: list[tuple[str, int]] = []
    for event in [*events_of(first), *events_of(second)]:
        if event.HasField("session_log"):
            assert event.session_log.status == event.session_log.START
            shown = [(tag, step) for tag, step in shown if step < event.step]
        shown += [(v.tag, event.step) for v in event.summary.value if v.tag.endswith("/loss")]
    assert shown == [("train/loss", 1), ("valid/loss", 1), ("train/loss", 2)]
