"""`Recorder`: the clock of a run, its rows of metrics, and what is told to the person watching."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import flax
import jax
import numpy as np
import optax

import mlip
from mlip.data.collate import BatchShape
from mlip.training.interfaces import BatchSource, Timing
from mlip.training.metrics import MetricsLog, RunningErrors
from mlip.training.plan import Plan
from mlip.training.progress import Reporter, Status
from mlip.training.state import Bookkeeping
from mlip.training.step import Compilation, StepMetrics

NAMED_FAULTS = 10  # records left out that are named in one event, and events told to the user


class Recorder:
    """Turns what happens in a run into rows of metrics and messages.

    Args:
        plan: gives the used share of the run's limit.
        batches: the training data.
        log_steps: steps between rows of training metrics.
        reporter: told of progress.
    """

    def __init__(
        self, plan: Plan, batches: BatchSource, log_steps: int, reporter: Reporter
    ) -> None:
        self._plan, self._batches = plan, batches
        self._log_steps, self.reporter = log_steps, reporter
        self.compilations: list[Compilation] = []
        self._log: MetricsLog | None = None
        self._window = _Window()
        self._step_seconds: deque[float] = deque(maxlen=1000)
        self._validation_seconds = 0.0
        self._data_wait = _DataWait()
        self._notices = 0
        self._epoch_start: float | None = None
        self._last: tuple[Bookkeeping, float] | None = None
        self._start = self._last_step = time.monotonic()

    def open(self, log: MetricsLog, seconds: float) -> None:
        """Start the clock.

        Args:
            log: where rows go.
            seconds: trained before this process.
        """
        self._log = log
        self._start = time.monotonic() - seconds

    @property
    def log(self) -> MetricsLog:
        """The files of metrics."""
        assert self._log is not None, "the recorder has not been opened"
        return self._log

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run, over all resumes."""
        return time.monotonic() - self._start

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on tracing and compiling in this process."""
        return sum(item.seconds for item in self.compilations)

    def timing(self) -> Timing:
        """Where the time went."""
        steps = self._step_seconds
        return Timing(
            seconds=self.seconds,
            train_step_ms=1000.0 * statistics.median(steps) if steps else None,
            compile_seconds=self.compile_seconds,
            validation_seconds=self._validation_seconds,
            data_wait_share=self._data_wait.share,
        )

    def start(self, book: Bookkeeping, precision: str, num_parameters: int) -> None:
        """Note what is trained on what."""
        packages = {"mlip": mlip, "jax": jax, "flax": flax, "optax": optax, "numpy": np}
        self.event(
            "start",
            book,
            num_parameters=num_parameters,
            precision=precision,
            device=jax.devices()[0].device_kind,
            batches=len(self._batches),
            shapes=[_describe(shape) for shape in self._batches.shapes],
            padding_share=self._batches.padding_share,
            versions={name: package.__version__ for name, package in packages.items()},
        )

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for the data of the next step."""
        self._window.data_wait_seconds += seconds
        self._data_wait.waited(seconds)

    def skipped(self, faults: Sequence[str], book: Bookkeeping) -> None:
        """Note records that were left out; the first few are told to the user."""
        self.event("skipped_records", book, skipped=len(faults), faults=list(faults[:NAMED_FAULTS]))
        if self._notices < NAMED_FAULTS:
            self._notices += 1
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self.reporter.notice(f"Left out: {faults[0]}{more}")
            if self._notices == NAMED_FAULTS:
                self.reporter.notice("Further records that are left out stand in metrics.jsonl.")

    def restart_step_clock(self) -> None:
        """The next step's time counts from now: something else came between."""
        self._last_step = time.monotonic()

    def step(self, after: Bookkeeping, lr: float, metrics: StepMetrics) -> None:
        """Note a finished step.

        Args:
            after: position after the step.
            lr: its learning rate.
            metrics: its loss and errors, on the host.
        """
        now = time.monotonic()
        seconds, self._last_step = now - self._last_step, now
        self._step_seconds.append(seconds)
        self._data_wait.stepped(seconds)
        self._window.add(metrics, seconds)
        self._last = (after, lr)
        self.reporter.training(self._status(after), self._window.errors.row())
        if after.batch == 0 or after.step % self._log_steps == 0:
            self.flush()

    def flush(self) -> None:
        """Write the row of the steps since the last one, if there are any."""
        if self._last is None or self._window.errors.empty:
            return
        after, lr = self._last
        row = self._window.row()
        if after.batch == 0:
            now = time.monotonic()
            if self._epoch_start is not None:
                row["epoch_seconds"] = now - self._epoch_start
            self._epoch_start = now
        self.log.write({"kind": "train", **self._place(after), "lr": lr, **row})
        self._window = _Window()

    def validation(
        self, book: Bookkeeping, lr: float, errors: RunningErrors, best: bool, seconds: float
    ) -> None:
        """Note a validation that took `seconds`."""
        self._validation_seconds += seconds
        row = {"kind": "valid", **self._place(book), "lr": lr, **errors.row()}
        self.log.write(row)
        self.reporter.validation(self._status(book), row, best)

    def event(self, event: str, book: Bookkeeping, **values: Any) -> None:
        """Note something that happens seldom."""
        self.log.write({"kind": "event", "event": event, **self._place(book), **values})

    def compiling(self, function: str, shape: BatchShape) -> None:
        """Tell of a compilation that begins."""
        before = any(done.function == function for done in self.compilations)
        reason = "batches of another shape" if before else "the first batch"
        self.reporter.notice(f"Compiling {function} for {_describe(shape)} ({reason}) …")

    def compiled(self, compilation: Compilation, book: Bookkeeping) -> None:
        """Note a compilation."""
        self.compilations.append(compilation)
        self.event(
            "compile",
            book,
            function=compilation.function,
            shape=_describe(compilation.shape),
            seconds=round(compilation.seconds, 3),
        )
        self.reporter.notice(f"… took {compilation.seconds:.1f} s.")

    def _place(self, book: Bookkeeping) -> dict[str, Any]:
        epoch = book.epoch + book.batch / len(self._batches)
        return {
            "epoch": round(epoch, 4),
            "step": book.step,
            "seconds": round(self.seconds, 3),
            "stage": book.stage,
        }

    def _status(self, book: Bookkeeping) -> Status:
        share, seconds = self._plan.share(book), self.seconds
        # By the clock that the share is of: the first step's, read late, has compiled meanwhile.
        left = book.seconds * (1.0 - share) / share if share > 0 else 0.0
        return Status(book.epoch, book.step, share, seconds, left)


class _DataWait:
    """Share of the steps' time that was spent waiting for data; the first step only starts it.

    The steps are the slower of the two clocks: a wait that overlaps with the step before, which
    still runs on the device, is counted all the same.
    """

    def __init__(self) -> None:
        self._waits: deque[float] = deque()
        self._waiting = self._stepping = 0.0
        self._started = False

    def waited(self, seconds: float) -> None:
        self._waits.append(seconds)

    def stepped(self, seconds: float) -> None:
        wait = self._waits.popleft() if self._waits else 0.0
        if self._started:
            self._waiting += wait
            self._stepping += seconds
        self._started = True

    @property
    def share(self) -> float | None:
        return self._waiting / self._stepping if self._stepping > 0 else None


class _Window:
    """What happened in the training steps since the last row of metrics."""

    def __init__(self) -> None:
        self.errors = RunningErrors()
        self.data_wait_seconds = 0.0
        self._grad_norm = 0.0
        self._step_seconds: list[float] = []

    def add(self, metrics: StepMetrics, seconds: float) -> None:
        self.errors.add(metrics.loss, metrics.errors)
        self._grad_norm = max(self._grad_norm, float(metrics.grad_norm))
        self._step_seconds.append(seconds)

    def row(self) -> dict[str, float]:
        return {
            **self.errors.row(),
            "grad_norm": self._grad_norm,
            "step_ms": 1000.0 * statistics.median(self._step_seconds),
            "data_wait_seconds": self.data_wait_seconds,
        }


def frame_names(identifiers: Sequence[str], metrics: StepMetrics) -> str:
    """The structures with residuals that are not finite, or the whole batch if none stands out."""
    bad = [name for name, flag in zip(identifiers, metrics.errors.bad, strict=False) if flag]
    return ", ".join(bad) if bad else "a batch of " + ", ".join(identifiers)


def _describe(shape: BatchShape) -> str:
    return f"{shape.graphs} structures, {shape.nodes} atoms, {shape.blocks}x{shape.width} edges"
