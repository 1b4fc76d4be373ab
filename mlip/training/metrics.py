"""Running errors in the units of the tables, and the files they are written to.

`metrics.jsonl` holds one JSON object a line, told apart by `kind`:

`train`, `valid`
    `epoch` (passes over the data, with decimals inside one), `step`, `seconds` (since the start,
    over all resumes), `stage`, `lr`, `loss`, `energy_rmse_mev_per_atom`, `forces_rmse_mev_per_a`,
    `stress_rmse_mev_per_a3` (each where labelled; neither forces nor stress of a loss without a
    weight for one of them, which computes neither). `train` rows are means over the steps since the
    row before and add `grad_norm` (largest), `step_ms` (median), `data_wait_seconds` (sum) and, at
    the end of an epoch, `epoch_seconds`.
`event`
    `event` says which: `start`, `resume`, `data_warning` (`message`), `compile` (`function`,
    `shape`; here `seconds` is how long it took), `stage` (`name`), `skipped_records` (`skipped`,
    their number, and `faults`, the first of them: unusable records the next batches lack).
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, SupportsFloat

from mlip.errors import MlipError
from mlip.training.loss import LossMetrics

COLUMNS = (
    "kind",
    "epoch",
    "step",
    "seconds",
    "stage",
    "lr",
    "loss",
    "energy_rmse_mev_per_atom",
    "forces_rmse_mev_per_a",
    "stress_rmse_mev_per_a3",
    "grad_norm",
    "step_ms",
    "data_wait_seconds",
    "epoch_seconds",
)


class RunningErrors:
    """Mean loss and root-mean-square errors over any number of batches."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._sums = {name: 0.0 for name in LossMetrics._fields if name != "bad"}

    def add(self, loss: SupportsFloat, metrics: LossMetrics) -> None:
        """Count a batch; the loss is weighted by its number of structures."""
        self._loss += float(loss) * float(metrics.structures)
        for name in self._sums:
            self._sums[name] += float(getattr(metrics, name))

    @property
    def empty(self) -> bool:
        """No structure has been counted."""
        return self._sums["structures"] == 0

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self._loss / self._sums["structures"]

    def row(self) -> dict[str, float]:
        """Loss and errors in meV/atom, meV/Å and meV/Å³; absent where no label is."""
        row = {"loss": self.loss}
        for name, key in (
            ("energy", "energy_rmse_mev_per_atom"),
            ("forces", "forces_rmse_mev_per_a"),
            ("stress", "stress_rmse_mev_per_a3"),
        ):
            count = self._sums[f"{name}_count"]
            if count > 0:
                row[key] = 1000.0 * math.sqrt(self._sums[name] / count)
        return row


class MetricsLog:
    """`metrics.jsonl` and `metrics.csv` of a run folder, and TensorBoard files on request.

    Args:
        folder: the run folder; made when absent.
        position: length of `metrics.jsonl` in bytes at the checkpoint resumed from; later rows
            are removed, so that no step stands there twice, and TensorBoard is told to hide
            them. None starts afresh.
        tensorboard: write event files into `folder/tensorboard`.

    Raises:
        MlipError: when the folder cannot be written, or tensorboardX is wanted but absent.
    """

    def __init__(self, folder: Path, position: int | None, tensorboard: bool = False) -> None:
        self._jsonl, self._csv = folder / "metrics.jsonl", folder / "metrics.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._jsonl.open("ab") as file:
                file.truncate(min(position or 0, file.tell()))
            self._file = self._jsonl.open("ab")
            self._start_csv()
        except OSError as error:
            raise unwritable(folder, error) from error
        self._board: Any = None
        if tensorboard:
            kept = [row["step"] for row in self.rows() if row["kind"] != "event"]
            self._board = _tensorboard(folder / "tensorboard", max(kept, default=-1) + 1)

    @property
    def position(self) -> int:
        """Length of `metrics.jsonl` in bytes, all rows safely on disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self._jsonl, error) from error
        return self._file.tell()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            if row["kind"] != "event":
                with self._csv.open("a", newline="", encoding="utf-8") as file:
                    self._csv_writer(file).writerow(row)
        except OSError as error:
            raise unwritable(self._jsonl, error) from error
        if self._board is not None and row["kind"] != "event":
            for key, value in row.items():
                if key not in ("kind", "epoch", "step"):
                    self._board.add_scalar(f"{row['kind']}/{key}", value, row["step"])

    def rows(self) -> list[dict[str, Any]]:
        """All rows, those of before a resume included."""
        return [json.loads(line) for line in self._jsonl.read_text("utf-8").splitlines()]

    def close(self) -> None:
        """Close the files."""
        with suppress(OSError):  # what could not be written has been told by `write`
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _start_csv(self) -> None:
        with self._csv.open("w", newline="", encoding="utf-8") as file:
            writer = self._csv_writer(file)
            writer.writeheader()
            writer.writerows(row for row in self.rows() if row["kind"] != "event")

    @staticmethod
    def _csv_writer(file: Any) -> csv.DictWriter:
        return csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")


def unwritable(path: Path, error: OSError) -> MlipError:
    """The error for a file that cannot be written: full disk, missing and so on."""
    return MlipError(
        f"cannot write {path}: {error.strerror or error}; free space, correct the permissions "
        "or choose another run folder, then start the same command again: it resumes from the "
        "last checkpoint."
    )


def _tensorboard(folder: Path, first_step: int) -> Any:
    """A writer; what earlier processes wrote from `first_step` on is marked as void."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MlipError(
            "trainer.tensorboard=true needs the package tensorboardX, which is not installed; "
            "run `pip install tensorboardX` or set trainer.tensorboard=false."
        ) from error
    return SummaryWriter(str(folder), purge_step=first_step)
