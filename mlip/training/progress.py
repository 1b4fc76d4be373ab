"""What a person sees of a run: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


class Status(NamedTuple):
    """Where a run stands.

    Attributes:
        epoch: passes over the data completed.
        step: optimiser steps done.
        share: used share of the run's limit, 0 to 1.
        seconds: wall-clock seconds so far.
        seconds_left: estimate of what is left.
    """

    epoch: int
    step: int
    share: float
    seconds: float
    seconds_left: float


class Reporter(Protocol):
    """Receives what happens in a run."""

    def notice(self, text: str) -> None:
        """One sentence to be seen."""

    def training(self, status: Status, errors: Mapping[str, float]) -> None:
        """After each step, with the errors of the last steps."""

    def validation(self, status: Status, row: Mapping[str, Any], best: bool) -> None:
        """After each validation, with its row of metrics."""

    def close(self) -> None:
        """The run has ended."""


def make_reporter(console: Console | None = None) -> Reporter:
    """Bars when the console is a terminal, plain lines otherwise."""
    console = console or Console()
    return BarReporter(console) if console.is_terminal else LineReporter(console)


class LineReporter:
    """Plain lines: each validation, and training at most every `interval` seconds.

    Args:
        console: where to print.
        interval: seconds between two lines on training.
    """

    def __init__(self, console: Console, interval: float = 30.0) -> None:
        self._console, self._interval = console, interval
        self._last = time.monotonic()

    def notice(self, text: str) -> None:
        """Print the sentence."""
        self._print(text)

    def training(self, status: Status, errors: Mapping[str, float]) -> None:
        """Print a line when the last is `interval` seconds old."""
        if errors and time.monotonic() - self._last >= self._interval:
            self._print(
                f"epoch {status.epoch:4d}  step {status.step:7d}  train  {format_errors(errors)}  "
                f"{format_seconds(status.seconds_left)} left"
            )

    def validation(self, status: Status, row: Mapping[str, Any], best: bool) -> None:
        """Print the errors on the validation set."""
        self._print(validation_line(status, row, best))

    def close(self) -> None:
        """Nothing to end."""

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class BarReporter:
    """A live bar with the epoch, the time left and the current errors.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]} left"),
            TextColumn("{task.fields[errors]}"),
            console=console,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def notice(self, text: str) -> None:
        """Print the sentence above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def training(self, status: Status, errors: Mapping[str, float]) -> None:
        """Move the bar."""
        fields: dict[str, Any] = {
            "epoch": status.epoch,
            "left": format_seconds(status.seconds_left),
            "errors": format_errors(errors),
        }
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("train", total=1.0, **fields)
        self._progress.update(self._task, completed=status.share, **fields)

    def validation(self, status: Status, row: Mapping[str, Any], best: bool) -> None:
        """Print the errors on the validation set above the bar."""
        self.notice(validation_line(status, row, best))

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


def validation_line(status: Status, row: Mapping[str, Any], best: bool) -> str:
    """Epoch, step, errors, learning rate and time of a validation in one line."""
    return (
        f"epoch {status.epoch:4d}  step {status.step:7d}  valid  {format_errors(row)}  "
        f"lr {row['lr']:.1e}  {format_seconds(status.seconds)}{'  best' if best else ''}"
    )


def format_errors(row: Mapping[str, float]) -> str:
    """`E 1.2 meV/atom  F 34.5 meV/Å`, with what there is."""
    parts = [
        f"{letter} {row[key]:.{digits}f} {unit}"
        for letter, key, digits, unit in (
            ("E", "energy_rmse_mev_per_atom", 2, "meV/atom"),
            ("F", "forces_rmse_mev_per_a", 1, "meV/Å"),
            ("S", "stress_rmse_mev_per_a3", 2, "meV/Å³"),
        )
        if key in row
    ]
    return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
