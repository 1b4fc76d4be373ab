"""What the terminal shows: one console and the tables that are not part of a report."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


@cache
def console() -> Console:
    """The one console; plain text when standard output is not a terminal."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


class ConsoleHandler(logging.Handler):
    """Prints what the package logs, such as a compilation that begins, on the one console."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; a live progress bar stays below it."""
        console().print(record.getMessage(), markup=False)


@cache
def show_log() -> None:
    """Let the console show what the package logs, from here on in this process."""
    logger = logging.getLogger("mlip")
    logger.addHandler(ConsoleHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries give the root logger a handler, which would repeat it


def show_bars() -> None:
    """Let the console show long work that happens on the way, from here on in this process."""
    from mlip.data.progress import show_progress
    from mlip.progress import StepProgress

    show_progress(lambda label, total: StepProgress(label, total, 0, console()))


def pairs_table(title: str, rows: Mapping[str, str]) -> Table:
    """Names and values in two columns."""
    table = Table(box=None, title=title, title_justify="left", title_style="bold")
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def text_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Cells as they are, the first column to the left and the others to the right."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def sweep_table(jobs: Sequence[tuple[str, Path]], codes: Sequence[int]) -> Table:
    """One row for each job of a sweep: how it ended, its force errors and its folder."""
    evaluations = [_evaluation(folder) for _, folder in jobs]
    subsets = list(dict.fromkeys(name for found in evaluations for name in found))
    table = Table(box=SIMPLE_HEAD, title="Sweep", title_justify="left", title_style="bold")
    table.add_column("job", no_wrap=True)
    table.add_column("ended")
    for name in subsets:
        table.add_column(f"{name}\nforce RMSE\nmeV/Å", justify="right")
    table.add_column("folder")
    for (label, folder), code, errors in zip(jobs, codes, evaluations, strict=True):
        ended = "well" if code == 0 else f"failed ({code})"
        values = (errors.get(name, {}).get("forces_rmse_mev_per_a") for name in subsets)
        shown = ("–" if value is None else f"{value:.1f}" for value in values)
        table.add_row(label, ended, *shown, str(folder))
    return table


def _evaluation(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / "evaluation.json"
    return json.loads(path.read_text()) if path.is_file() else {}
