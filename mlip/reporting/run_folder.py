"""Reading a run folder for the report; what is absent stays empty and the page says so.

Files (`metrics.jsonl` or `evaluation.json` must exist, the others make the page fuller):

`config.yaml`
    the resolved configuration, shown as it is.

`metrics.jsonl`
    one JSON object a line. `kind` is `train`, `valid` or `event`.
    Every row: `epoch` (with decimals inside one), `step`, `seconds` (training time so far, over
    all resumes). `train` and `valid` rows: `lr`, `loss`, `energy_rmse_mev_per_atom`,
    `forces_rmse_mev_per_a` and, where there are stress labels, `stress_rmse_mev_per_a3`. `train`
    rows may add `step_ms` (median training step), `data_wait_seconds` (time the steps since the
    last row waited for data) and, at the end of an epoch, `epoch_seconds`.
    `event` rows have `event`: `start` (`num_parameters`, `precision`, `device`, `batches`,
    `shapes`, `padding_share`), `data_warning` (`message`), `compile` (`function`, `shape`, and
    here `seconds` is how long it took), `stage` (`name`), `resume`.
    A last line cut short by a kill is skipped.

`evaluation.json`
    {subset: {`num_structures`, `num_atoms`, `energy_mae_mev_per_atom`,
    `energy_rmse_mev_per_atom`, `energy_rmse_mev` (total energy), `forces_mae_mev_per_a`,
    `forces_rmse_mev_per_a`, `stress_mae_mev_per_a3`, `stress_rmse_mev_per_a3`,
    `forces_by_element`: {symbol: {`num_atoms`, `mae_mev_per_a`, `rmse_mev_per_a`}}}}.
    A quantity without labels is absent or null.

`predictions.npz`
    for each subset of S structures and A atoms, arrays named `SUBSET/ARRAY`: `num_atoms` (S,),
    `numbers` (A,), `e0` (S,) (ΣE0 of the structure), `energy` and `energy_reference` (S,) total
    energies in eV, `forces` and `forces_reference` (A, 3) in eV/Å, `stress` and
    `stress_reference` (S, 3, 3) in eV/Å³. NaN marks a missing label.

`model.mlip`
    only its `metadata.json` is read: `elements`, `cutoff`, `e0` (by symbol, eV), `precision`, and
    in `provenance` the `e0_origin`, `data` (`name`, `fingerprint`) and `versions`.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlip.errors import MlipError

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """What a run folder holds; see the module's docstring for every field.

    Attributes:
        path: the folder.
        config: text of `config.yaml`, empty when absent.
        train: `train` rows of the metrics.
        valid: `valid` rows of the metrics.
        events: `event` rows of the metrics.
        evaluation: errors of each subset.
        predictions: arrays of each subset.
        metadata: `metadata.json` of the saved model.
    """

    path: Path
    config: str = ""
    train: tuple[Row, ...] = ()
    valid: tuple[Row, ...] = ()
    events: tuple[Row, ...] = ()
    evaluation: dict[str, Row] = field(default_factory=dict)
    predictions: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    metadata: Row = field(default_factory=dict)

    def events_named(self, name: str) -> list[Row]:
        """Every event row of one kind, in order."""
        return [row for row in self.events if row.get("event") == name]


def read_run_folder(path: Path) -> RunFolder:
    """Read everything the report shows.

    Args:
        path: the run folder.

    Raises:
        MlipError: when the folder does not exist, holds neither metrics nor an evaluation, or
            when a file in it cannot be understood.
    """
    if not path.is_dir():
        raise MlipError(f"{path} is not a folder; give the run folder, such as runs/quickstart.")
    metrics, evaluation = path / "metrics.jsonl", path / "evaluation.json"
    if not (metrics.is_file() or evaluation.is_file()):
        raise MlipError(
            f"{path} holds neither metrics.jsonl nor evaluation.json, so it is not a run folder "
            "or nothing was trained in it yet; run `mlip train` first."
        )
    config, predictions, model = (
        path / name for name in ("config.yaml", "predictions.npz", "model.mlip")
    )
    rows = _read_jsonl(metrics) if metrics.is_file() else []
    return RunFolder(
        path=path,
        config=_read_text(config) if config.is_file() else "",
        train=tuple(row for row in rows if row.get("kind") == "train"),
        valid=tuple(row for row in rows if row.get("kind") == "valid"),
        events=tuple(row for row in rows if row.get("kind") == "event"),
        evaluation=_read_json(evaluation) if evaluation.is_file() else {},
        predictions=_read_arrays(predictions) if predictions.is_file() else {},
        metadata=_read_metadata(model) if model.is_file() else {},
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MlipError(f"Cannot read {path}: {error}.") from error


def _read_json(path: Path) -> dict[str, Row]:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise MlipError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}); "
            "write it again with `mlip evaluate`."
        ) from error


def _read_jsonl(path: Path) -> list[Row]:
    """The rows of a JSONL file; an unfinished last line, left by a kill, is dropped."""
    lines = [line for line in _read_text(path).splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise MlipError(
                f"{path}, line {number} is not valid JSON ({error.msg}); remove that line."
            ) from error
    return rows


def _read_arrays(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays named `SUBSET/ARRAY`, grouped by subset in the order of the file."""
    subsets: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                subset, _, name = key.rpartition("/")
                subsets.setdefault(subset, {})[name] = arrays[key]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise MlipError(
            f"Cannot read {path} ({error}); write it again with `mlip evaluate`."
        ) from error
    return subsets


def _read_metadata(path: Path) -> Row:
    """`metadata.json` of a saved model, read without loading the model."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise MlipError(f"{path} is not a saved model ({error}).") from error
