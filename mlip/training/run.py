"""`Run`: the state, files and clock of one training run, and the loop over its batches."""

from __future__ import annotations

import dataclasses
import signal
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import optax
from flax import nnx

import mlip
from mlip.data.collate import BatchShape
from mlip.errors import MlipError
from mlip.training.checkpoints import Checkpoints
from mlip.training.interfaces import BatchSource, FitResult, Timing, TrainingBatch
from mlip.training.interrupt import Interrupted, InterruptWatch
from mlip.training.loss import LossSettings
from mlip.training.metrics import MetricsLog, RunningErrors, TrainingWindow
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.plan import Plan
from mlip.training.progress import Reporter, Status
from mlip.training.settings import TrainerSettings
from mlip.training.state import Bookkeeping, SplitModel, from_host, initial_state, to_host
from mlip.training.step import Compilation, StepMetrics, Steps

# Settings that may differ when a run is resumed: they move its end or its output, not its course.
MAY_CHANGE = {
    f"trainer.{name}"
    for name in (
        "max_epochs",
        "max_steps",
        "max_minutes",
        "keep",
        "early_stopping",
        "checkpoint_minutes",
        "keep_checkpoints",
        "log_steps",
        "tensorboard",
    )
}


class _Pending(NamedTuple):
    """A dispatched training step whose metrics have not been read yet."""

    before: Bookkeeping
    after: Bookkeeping
    identifiers: Sequence[str]
    metrics: StepMetrics
    lr: float


class Run:
    """One training run; see `mlip.training.loop.fit` for the arguments."""

    def __init__(
        self,
        model: nnx.Module,
        train_batches: BatchSource,
        valid_batches: BatchSource | None,
        *,
        plan: Plan,
        trainer: TrainerSettings,
        loss: LossSettings,
        optimizer: OptimizerSettings,
        run_dir: Path,
        fingerprint: Mapping[str, Any],
        reporter: Reporter,
        watch: InterruptWatch,
        data_warnings: Sequence[str],
    ) -> None:
        self._train_batches, self._valid_batches = train_batches, valid_batches
        self._plan, self._trainer, self._fingerprint = plan, trainer, fingerprint
        self._reporter, self._watch = reporter, watch
        self._split = SplitModel(model)
        self._check_input()
        mask = self._split.decay_mask(model) if optimizer.weight_decay > 0 else {}
        transform = build_optimizer(optimizer, mask)
        self._steps = Steps(
            self._split, transform, loss, trainer.ema_decay, self._compiling, self._compiled
        )
        self._state = initial_state(self._split.params, transform)
        self._book = Bookkeeping()
        self._best: dict[str, np.ndarray] = {}
        self._pending: deque[_Pending] = deque()
        self._last_read: _Pending | None = None
        self._window = TrainingWindow()
        self._epoch_start: float | None = None
        self._step_seconds: deque[float] = deque(maxlen=1000)
        self._compilations: list[Compilation] = []
        self._validation_seconds = 0.0
        self._checkpoints = Checkpoints(
            run_dir / "checkpoints", trainer.keep_checkpoints, reporter.notice
        )
        position = self._resume()
        self._log = MetricsLog(run_dir, position, trainer.tensorboard)
        self._last_pull = self._last_save = time.monotonic()
        self._clock_start = time.monotonic() - self._book.seconds
        if position is None:
            self._event("start", **self._description())
            for message in data_warnings:
                self._event("data_warning", message=message)
        else:
            self._event("resume")

    def train(self) -> None:
        """Go on until a limit or a signal."""
        with closing(self._stream()) as batches:
            while not self._over():
                start = time.monotonic()
                batch, ends_epoch = next(batches)
                self._window.data_wait_seconds += time.monotonic() - start
                self._train_step(batch, ends_epoch)

    def result(self) -> FitResult:
        """What has come of it, when the last checkpoint is on disk."""
        self._checkpoints.wait()
        book = self._book
        use_best = self._trainer.keep == "best" and bool(self._best)
        weights = self._best if use_best else jax.device_get(self._state.ema)
        params = {name: jax.numpy.array(value) for name, value in weights.items()}
        steps = self._step_seconds
        return FitResult(
            model=self._split.merge(params, self._split.constants),
            step=book.step,
            epoch=book.epoch,
            stopped_by=self._plan.stop_reason(book) or "",
            best_step=book.best_step if book.best_loss is not None else None,
            best_loss=book.best_loss,
            history=self._log.rows(),
            timing=Timing(
                seconds=book.seconds,
                train_step_ms=1000.0 * statistics.median(steps) if steps else None,
                compile_seconds=self._compile_seconds(),
                validation_seconds=self._validation_seconds,
            ),
            compilations=self._compilations,
        )

    def close(self) -> None:
        """Close files and threads."""
        self._checkpoints.close()
        self._log.close()

    # --- steps

    def _stream(self) -> Iterator[tuple[TrainingBatch, bool]]:
        """Batches from the current position on, each with whether it ends its epoch."""
        while True:
            batches = self._train_batches.epoch(self._book.epoch, self._book.batch)
            batch = next(batches)
            for following in batches:
                yield batch, False
                batch = following
            yield batch, True

    def _train_step(self, batch: TrainingBatch, ends_epoch: bool) -> None:
        """Dispatch a step; then read the metrics of the one before, while this one runs."""
        book, plan = self._book, self._plan
        before, lr = dataclasses.replace(book), plan.lr(book)
        self._state, metrics = self._steps.train(
            self._state, batch.graph, batch.labels, lr, plan.weights(book)
        )
        book.step += 1
        book.batch += 1
        if ends_epoch:
            book.epoch, book.batch = book.epoch + 1, 0
        every = self._trainer.validate_steps
        book.validation_due = ends_epoch if every is None else book.step % every == 0
        after = dataclasses.replace(book)
        self._pending.append(_Pending(before, after, batch.identifiers, metrics, lr))
        self._read_metrics(leave=1)

    def _read_metrics(self, leave: int) -> None:
        """Read the metrics of all dispatched steps but the last `leave`."""
        while len(self._pending) > leave:
            pending = self._pending.popleft()
            metrics = jax.device_get(pending.metrics)
            if not metrics.ok:
                self._stop_for_bad_step(pending, metrics)
            now = time.monotonic()
            seconds, self._last_pull = now - self._last_pull, now
            self._step_seconds.append(seconds)
            self._window.add(metrics, seconds)
            self._reporter.training(self._status(), self._window.errors.row())
            self._last_read = pending
            if pending.after.batch == 0 or pending.after.step % self._trainer.log_steps == 0:
                self._log_training()

    def _log_training(self) -> None:
        """Write the row of the steps since the last one, if there are any."""
        if self._last_read is None or self._window.errors.empty:
            return
        row, after = self._window.row(), self._last_read.after
        if after.batch == 0:
            now = time.monotonic()
            if self._epoch_start is not None:
                row["epoch_seconds"] = now - self._epoch_start
            self._epoch_start = now
        self._log.write(self._row("train", after, self._last_read.lr, row))
        self._window = TrainingWindow()

    def _over(self) -> bool:
        """Validate, save and stop when it is time; true at the end of the run."""
        book, plan = self._book, self._plan
        self._tick()
        if plan.enters_second_stage(book):
            plan.start_second_stage(book)
            self._event("stage", name="second stage")
        if plan.stop_reason(book) and book.validated_step != book.step:
            book.validation_due = True
        if book.validation_due:
            self._validate()
        if self._watch.requested is not None:
            self._stop_for_signal(self._watch.requested)
        over = plan.stop_reason(book) is not None
        due = time.monotonic() - self._last_save >= 60.0 * self._trainer.checkpoint_minutes
        if over or (due and book.step > 0):
            self._read_metrics(leave=0)
            self._save()
        return over

    def _validate(self) -> None:
        """Errors of the averaged weights on the validation set; given up when a signal comes."""
        self._read_metrics(leave=0)
        self._log_training()
        book, plan = self._book, self._plan
        start, compiled = time.monotonic(), self._compile_seconds()
        if self._valid_batches is not None:
            errors = RunningErrors()
            for batch in self._valid_batches.epoch(0):
                if self._watch.requested is not None:
                    return
                metrics = jax.device_get(
                    self._steps.evaluate(
                        self._state.ema, batch.graph, batch.labels, plan.weights(book)
                    )
                )
                if not metrics.ok:
                    self._stop_for_bad_validation(batch, metrics)
                errors.add(metrics.loss, metrics.errors)
            self._validation_seconds += time.monotonic() - start
            # What a further validation will take: compiled by then.
            book.validation_seconds = time.monotonic() - start - self._compile_seconds() + compiled
            self._note_validation(errors)
        book.validation_due, book.validated_step = False, book.step
        self._last_pull = time.monotonic()

    def _note_validation(self, errors: RunningErrors) -> None:
        book = self._book
        row = self._row("valid", book, self._plan.lr(book), errors.row())
        is_best = self._plan.record_validation(book, errors.loss)
        if is_best:
            self._best = {name: np.array(value) for name, value in self._state.ema.items()}
        self._log.write(row)
        self._reporter.validation(self._status(), row, is_best)

    # --- stops

    def _stop_for_signal(self, number: int) -> None:
        self._read_metrics(leave=0)
        self._save()
        self._checkpoints.wait()
        self._event("signal")
        name, folder = signal.Signals(number).name, self._checkpoints.folder
        raise Interrupted(
            number,
            f"Stopped by {name} at step {self._book.step}; all is saved in {folder}. "
            "Start the same command again to go on.",
        )

    def _stop_for_bad_step(self, pending: _Pending, metrics: StepMetrics) -> None:
        """The device has refused this step and all later ones: go back to before it and save."""
        self._pending.clear()
        seconds = self._book.seconds
        self._book = dataclasses.replace(pending.before, seconds=seconds)
        self._state = self._state.replace(failed=jax.numpy.zeros((), bool))
        self._save()
        self._checkpoints.wait()
        what = "gradient" if np.isfinite(metrics.loss) else "loss"
        raise MlipError(
            f"the {what} of training step {self._book.step + 1} is not finite for "
            f"{_frames(pending.identifiers, metrics)}. The weights before this step are saved in "
            f"{self._checkpoints.folder}. Look at these frames for wrong labels or atoms that "
            f"overlap; if they are sound, train with a lower optimizer.lr (now {pending.lr:.2e})."
        )

    def _stop_for_bad_validation(self, batch: TrainingBatch, metrics: StepMetrics) -> None:
        self._save()
        self._checkpoints.wait()
        raise MlipError(
            f"the validation loss at step {self._book.step} is not finite for "
            f"{_frames(batch.identifiers, metrics)}; look at these frames for wrong labels or "
            "atoms that overlap, or leave them out of the validation set."
        )

    # --- files and clock

    def _resume(self) -> int | None:
        """Take over the newest checkpoint; returns its position in metrics.jsonl."""
        saved = self._checkpoints.newest(self._fingerprint, MAY_CHANGE)
        if saved is None:
            return None
        prefix = "best."
        best = {k: v for k, v in saved.arrays.items() if k.startswith(prefix)}
        self._best = {name.removeprefix(prefix): value for name, value in best.items()}
        self._state = from_host(self._state, saved.arrays)
        self._book = Bookkeeping(**saved.meta["book"])
        self._reporter.notice(
            f"Resuming from the checkpoint of step {saved.step} (epoch {self._book.epoch}) in "
            f"{self._checkpoints.folder}."
        )
        return int(saved.meta["metrics_position"])

    def _save(self) -> None:
        self._tick()
        arrays = to_host(self._state)
        arrays |= {f"best.{name}": value for name, value in self._best.items()}
        meta = {
            "settings": self._fingerprint,
            "book": dataclasses.asdict(self._book),
            "metrics_position": self._log.position,
        }
        self._checkpoints.save(self._book.step, arrays, meta)
        self._last_save = self._last_pull = time.monotonic()

    def _tick(self) -> None:
        self._book.seconds = time.monotonic() - self._clock_start

    def _status(self) -> Status:
        book, share = self._book, self._plan.share(self._book)
        seconds = time.monotonic() - self._clock_start
        left = seconds * (1.0 - share) / share if share > 0 else 0.0
        return Status(book.epoch, book.step, share, seconds, left)

    def _row(
        self, kind: str, book: Bookkeeping, lr: float, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {"kind": kind, **self._place(book), "stage": book.stage, "lr": lr, **values}

    def _event(self, event: str, **values: Any) -> None:
        self._log.write({"kind": "event", "event": event, **self._place(self._book), **values})

    def _place(self, book: Bookkeeping) -> dict[str, Any]:
        epoch = book.epoch + book.batch / len(self._train_batches)
        seconds = time.monotonic() - self._clock_start
        return {"epoch": round(epoch, 4), "step": book.step, "seconds": round(seconds, 3)}

    def _description(self) -> dict[str, Any]:
        """What is trained on what, for the report."""
        packages = {"mlip": mlip, "jax": jax, "flax": flax, "optax": optax, "numpy": np}
        return {
            "num_parameters": sum(value.size for value in self._split.params.values()),
            "precision": self._trainer.precision,
            "device": jax.devices()[0].device_kind,
            "batches": len(self._train_batches),
            "shapes": [_describe(shape) for shape in self._train_batches.shapes],
            "padding_share": self._train_batches.padding_share,
            "versions": {name: package.__version__ for name, package in packages.items()},
        }

    def _compiling(self, function: str, shape: BatchShape) -> None:
        self._reporter.notice(f"Compiling {function} for batches of {_describe(shape)} …")

    def _compiled(self, compilation: Compilation) -> None:
        self._compilations.append(compilation)
        self._event(
            "compile",
            function=compilation.function,
            shape=_describe(compilation.shape),
            seconds=round(compilation.seconds, 3),
        )
        self._reporter.notice(f"… took {compilation.seconds:.1f} s.")
        self._last_pull = time.monotonic()

    def _compile_seconds(self) -> float:
        return sum(item.seconds for item in self._compilations)

    def _check_input(self) -> None:
        if len(self._train_batches) == 0:
            raise MlipError("there is no training batch; give at least one training structure.")
        found = {str(value.dtype) for value in self._split.params.values()}
        if found != {self._trainer.precision}:
            raise MlipError(
                f"trainer.precision={self._trainer.precision} but the weights of the model are "
                f"{', '.join(sorted(found))}; build the model in that precision."
            )


def _frames(identifiers: Sequence[str], metrics: StepMetrics) -> str:
    """The structures with residuals that are not finite, or all of the batch."""
    bad = [name for name, flag in zip(identifiers, metrics.errors.bad, strict=False) if flag]
    if bad:
        return ", ".join(bad)
    return "a batch of " + ", ".join(identifiers)


def _describe(shape: BatchShape) -> str:
    return f"{shape.graphs} structures, {shape.nodes} atoms, {shape.blocks}x{shape.width} edges"
