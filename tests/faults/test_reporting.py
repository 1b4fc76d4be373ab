"""A damaged run folder gives one clear sentence."""

import pytest

from mlip.errors import MlipError
from mlip.reporting.report import write_report
from mlip.reporting.run_folder import read_run_folder
from tests.reporting.synthetic import write_run_folder


@pytest.fixture
def folder(tmp_path):
    return write_run_folder(tmp_path / "run", frames=2, epochs=2)


def test_empty_folder(tmp_path):
    with pytest.raises(MlipError, match=r"neither metrics\.jsonl nor"):
        read_run_folder(tmp_path)


def test_evaluation_that_is_not_json(folder):
    (folder / "evaluation.json").write_text('{"300K": ')
    with pytest.raises(MlipError, match=r"evaluation\.json is not valid JSON .*mlip evaluate"):
        read_run_folder(folder)


def test_metrics_cut_short_by_a_kill(folder):
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "train", "epo')
    assert len(read_run_folder(folder).valid) == 2


def test_metrics_damaged_in_the_middle(folder):
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    lines[1] = "garbage"
    metrics.write_text("\n".join(lines))
    with pytest.raises(MlipError, match=r"metrics\.jsonl, line 2"):
        read_run_folder(folder)


def test_truncated_predictions(folder):
    arrays = folder / "predictions.npz"
    arrays.write_bytes(arrays.read_bytes()[:500])
    with pytest.raises(MlipError, match=r"predictions\.npz.*mlip evaluate"):
        read_run_folder(folder)


def test_truncated_model(folder):
    (folder / "model.mlip").write_bytes(b"PK")
    with pytest.raises(MlipError, match=r"model\.mlip is not a saved model"):
        read_run_folder(folder)


def test_figures_that_cannot_be_written(folder):
    (folder / "figures").write_text("a file where a folder should be")
    with pytest.raises(MlipError, match="Cannot write the figure"):
        write_report(folder)


def test_page_that_cannot_be_written(folder):
    for name in ("metrics.jsonl", "predictions.npz"):
        (folder / name).unlink()
    (folder / "report.html").mkdir()
    with pytest.raises(MlipError, match=r"Cannot write .*report\.html"):
        write_report(folder)
