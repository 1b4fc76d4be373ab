"""How far long work is: a live bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL = 15.0  # s between two plain lines


class StepProgress:
    """Progress over a known number of steps.

    Args:
        label: one word for what is going on.
        total: steps.
        done: steps done before.
        console: where to print.
    """

    def __init__(self, label: str, total: int, done: int, console: Console) -> None:
        self._label, self._total = label, total
        self._console = console
        self._last = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(label),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(label, total=total, completed=done, text="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def resize(self, total: int) -> None:
        """Correct the number of steps."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def update(self, step: int, text: str) -> None:
        """Show the step just done and what is known of it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif time.monotonic() - self._last >= LINE_INTERVAL:
            self._last = time.monotonic()
            say(self._console, f"{self._label} {step}/{self._total}  {text}")


def say(console: Console, text: str) -> None:
    """Print one plain line."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
