"""`Run`: the state and files of one training run, and the loop over its batches."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip.errors import MlipError
from mlip.training.checkpoints import Checkpoints
from mlip.training.interfaces import BatchSource, FitResult, TrainingBatch
from mlip.training.interrupt import Interrupted, InterruptWatch
from mlip.training.loss import LossSettings
from mlip.training.metrics import MetricsLog, RunningErrors
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.plan import Plan
from mlip.training.progress import Reporter
from mlip.training.recorder import Recorder, frame_names
from mlip.training.settings import MAY_CHANGE, TrainerSettings
from mlip.training.state import Bookkeeping, SplitModel, from_host, initial_state, to_host
from mlip.training.step import StepMetrics, Steps

_BEST = "best."
Item = TypeVar("Item")


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
        data_warnings: Sequence[str],
        reporter: Reporter,
        watch: InterruptWatch,
    ) -> None:
        self._train_batches, self._valid_batches = train_batches, valid_batches
        self._plan, self._trainer, self._fingerprint = plan, trainer, fingerprint
        self._watch = watch
        self._split = SplitModel(model)
        _check_precision(self._split, trainer)
        mask = self._split.decay_mask(model) if optimizer.weight_decay > 0 else {}
        transform = build_optimizer(optimizer, mask)
        self._recorder = Recorder(plan, train_batches, trainer.log_steps, reporter)
        self._steps = Steps(
            self._split,
            transform,
            loss,
            trainer.ema_decay,
            self._recorder.compiling,
            lambda compilation: self._recorder.compiled(compilation, self._book),
        )
        self._state = initial_state(self._split.params, transform)
        self._book = Bookkeeping()
        self._best: dict[str, np.ndarray] = {}
        self._pending: deque[_Pending] = deque()
        folder = run_dir / "checkpoints"
        self._checkpoints = Checkpoints(folder, trainer.keep_checkpoints, reporter.notice)
        position = self._resume()
        self._recorder.open(MetricsLog(run_dir, position, trainer.tensorboard), self._book.seconds)
        self._last_save = time.monotonic()
        if position is None:
            count = sum(value.size for value in self._split.params.values())
            self._recorder.start(self._book, trainer.precision, count)
            for message in data_warnings:
                self._recorder.event("data_warning", self._book, message=message)
        else:
            self._recorder.event("resume", self._book)

    def train(self) -> None:
        """Go on until a limit or a signal."""
        stream = self._train_batches.stream(self._book.epoch, self._book.batch)
        with closing(stream):
            batches = self._guarded(stream)
            while not self._over():
                self._train_step(*self._next(batches))

    def result(self) -> FitResult:
        """What has come of it, when the last checkpoint is on disk."""
        self._checkpoints.wait()
        book = self._book
        if book.step == 0:
            raise MlipError(
                f"trainer.max_minutes={self._trainer.max_minutes} was over before the first "
                f"training step (compilation took {self._recorder.compile_seconds:.0f} s); "
                "allow more minutes."
            )
        use_best = self._trainer.keep == "best" and bool(self._best)
        weights = self._best if use_best else jax.device_get(self._state.ema)
        params = {name: jnp.array(value) for name, value in weights.items()}
        history = self._recorder.log.rows()
        return FitResult(
            model=self._split.merge(params, self._split.constants),
            step=book.step,
            epoch=book.epoch,
            stopped_by=self._plan.stop_reason(book) or "",
            best_step=book.best_step if book.best_loss is not None else None,
            best_loss=book.best_loss,
            history=history,
            timing=self._recorder.timing(),
            compilations=self._recorder.compilations,
            skipped_records=sum(row.get("skipped", 0) for row in history),
        )

    def close(self) -> None:
        """Close files and threads."""
        self._checkpoints.close()
        self._recorder.log.close()

    # --- steps

    def _next(self, batches: Iterator[tuple[TrainingBatch, bool]]) -> tuple[TrainingBatch, bool]:
        """The next batch; the time until it is there is noted."""
        start = time.monotonic()
        batch, ends_epoch = next(batches)
        self._recorder.waited(time.monotonic() - start)
        if batch.skipped:
            self._recorder.skipped(batch.skipped, self._book)
        return batch, ends_epoch

    def _guarded(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The same batches; when the data fail, all steps so far are saved."""
        while True:
            try:
                item = next(batches)
            except StopIteration:
                return
            except Exception:
                self._read_metrics(leave=0)
                if self._book.step > 0:
                    self._save()
                    self._checkpoints.wait()
                raise
            yield item

    def _train_step(self, batch: TrainingBatch, ends_epoch: bool) -> None:
        """Dispatch a step; then read the metrics of the one before, while this one runs."""
        book, plan = self._book, self._plan
        before, lr = replace(book), plan.lr(book)
        self._state, metrics = self._steps.train(
            self._state, batch.graph, batch.labels, lr, plan.weights(book)
        )
        book.step += 1
        book.batch += 1
        if ends_epoch:
            book.epoch, book.batch = book.epoch + 1, 0
        every = self._trainer.validate_steps
        book.validation_due = ends_epoch if every is None else book.step % every == 0
        self._pending.append(_Pending(before, replace(book), batch.identifiers, metrics, lr))
        self._read_metrics(leave=1)

    def _read_metrics(self, leave: int) -> None:
        """Read the metrics of all dispatched steps but the last `leave`."""
        while len(self._pending) > leave:
            pending = self._pending.popleft()
            metrics = jax.device_get(pending.metrics)
            if not metrics.ok:
                self._stop_for_bad_step(pending, metrics)
            self._recorder.step(pending.after, pending.lr, metrics)

    def _over(self) -> bool:
        """Validate, save and stop when it is time; true at the end of the run."""
        book, plan = self._book, self._plan
        book.seconds = self._recorder.seconds
        if plan.enters_second_stage(book):
            plan.start_second_stage(book)
            self._recorder.event("stage", book, name="second stage")
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
        self._recorder.flush()
        book, plan, recorder = self._book, self._plan, self._recorder
        start, compiled = time.monotonic(), recorder.compile_seconds
        if self._valid_batches is not None:
            errors = RunningErrors()
            for batch in self._guarded(self._valid_batches.epoch(0)):
                if batch.skipped:
                    recorder.skipped(batch.skipped, book)
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
            seconds = time.monotonic() - start
            # What a further validation will take: compiled by then.
            book.validation_seconds = seconds - (recorder.compile_seconds - compiled)
            lr = plan.lr(book)
            is_best = plan.record_validation(book, errors.loss)
            if is_best:
                self._best = {name: np.array(value) for name, value in self._state.ema.items()}
            recorder.validation(book, lr, errors, is_best, seconds)
        book.validation_due, book.validated_step = False, book.step
        recorder.restart_step_clock()

    # --- stops

    def _stop_for_signal(self, number: int) -> None:
        self._read_metrics(leave=0)
        self._save()
        self._checkpoints.wait()
        name, folder = signal.Signals(number).name, self._checkpoints.folder
        message = (
            f"Stopped by {name} at step {self._book.step}; all is saved in {folder}. "
            "Start the same command again to go on."
        )
        self._recorder.reporter.notice(message)
        raise Interrupted(number, message)

    def _stop_for_bad_step(self, pending: _Pending, metrics: StepMetrics) -> None:
        """The device has refused this step and all later ones: go back to before it and save."""
        self._pending.clear()
        self._book = replace(pending.before, seconds=self._recorder.seconds)
        self._state = replace(self._state, failed=jnp.zeros((), bool))
        self._save()
        self._checkpoints.wait()
        what = "gradient" if np.isfinite(metrics.loss) else "loss"
        raise MlipError(
            f"the {what} of training step {self._book.step + 1} is not finite for "
            f"{frame_names(pending.identifiers, metrics)}. The weights before this step are saved "
            f"in {self._checkpoints.folder}. Look at these frames for wrong labels or atoms that "
            f"overlap; if they are sound, train with a lower optimizer.lr (now {pending.lr:.2e})."
        )

    def _stop_for_bad_validation(self, batch: TrainingBatch, metrics: StepMetrics) -> None:
        self._save()
        self._checkpoints.wait()
        raise MlipError(
            f"the validation loss at step {self._book.step} is not finite for "
            f"{frame_names(batch.identifiers, metrics)}; look at these frames for wrong labels or "
            "atoms that overlap, or leave them out of the validation set."
        )

    # --- checkpoints

    def _resume(self) -> int | None:
        """Take over the newest checkpoint; returns its position in metrics.jsonl."""
        saved = self._checkpoints.newest(self._fingerprint, MAY_CHANGE)
        if saved is None:
            return None
        self._best = {
            name.removeprefix(_BEST): value
            for name, value in saved.arrays.items()
            if name.startswith(_BEST)
        }
        self._state = from_host(self._state, saved.arrays)
        self._book = Bookkeeping(**saved.meta["book"])
        self._recorder.reporter.notice(
            f"Resuming from the checkpoint of step {saved.step} (epoch {self._book.epoch}) in "
            f"{self._checkpoints.folder}."
        )
        return int(saved.meta["metrics_position"])

    def _save(self) -> None:
        """Start to save state and position; all dispatched steps must have been read."""
        self._book.seconds = self._recorder.seconds
        arrays = to_host(self._state)
        arrays |= {f"{_BEST}{name}": value for name, value in self._best.items()}
        meta = {
            "settings": self._fingerprint,
            "book": asdict(self._book),
            "metrics_position": self._recorder.log.position,
        }
        self._checkpoints.save(self._book.step, arrays, meta)
        self._last_save = time.monotonic()
        self._recorder.restart_step_clock()


def _check_precision(split: SplitModel, trainer: TrainerSettings) -> None:
    found = {str(value.dtype) for value in split.params.values()}
    if found != {trainer.precision}:
        raise MlipError(
            f"trainer.precision={trainer.precision} but the weights of the model are "
            f"{', '.join(sorted(found))}; build the model in that precision."
        )
