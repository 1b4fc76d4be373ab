"""`fit`: train a model in a run folder, or go on where its last checkpoint stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from mlip.errors import MlipError
from mlip.potential import has_direct_forces
from mlip.training.interfaces import BatchSource, FitResult
from mlip.training.interrupt import PRESS_AGAIN, InterruptWatch
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings
from mlip.training.plan import Plan, stage_weights
from mlip.training.progress import Reporter, make_reporter
from mlip.training.run import Run
from mlip.training.schedule import ScheduleSettings
from mlip.training.settings import TrainerSettings

STOPPING = f"Stopping after the step or compilation that is under way, then saving; {PRESS_AGAIN}."


def fit(
    model: nnx.Module,
    train_batches: BatchSource,
    valid_batches: BatchSource | None,
    *,
    trainer: TrainerSettings,
    loss: LossSettings,
    optimizer: OptimizerSettings,
    schedule: ScheduleSettings,
    run_dir: Path | str,
    settings: Mapping[str, Any] | None = None,
    data_warnings: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> FitResult:
    """Train a model; in a folder with checkpoints, go on where the last one stands.

    With limits in steps or epochs an interrupted run ends with bitwise the weights of one that
    never was. With `max_minutes` the learning rate follows the clock, so that a resumed run goes
    on from exactly the saved state but meets other learning rates than it would have.

    Args:
        model: with initial weights; left unchanged.
        train_batches: training data.
        valid_batches: validation data, or None.
        trainer: limits, averaging, validation, checkpoints, logging.
        loss: weights and shape of the loss.
        optimizer: optimiser and learning rate.
        schedule: course of the learning rate.
        run_dir: run folder; made when absent.
        settings: further settings, of the model and the data, that a resumed run must share;
            nested mappings of what JSON can hold.
        data_warnings: findings of the data check, kept in metrics.jsonl for the report.
        reporter: told of progress; bars or lines on standard output by default.

    Raises:
        MlipError: loss or gradient not finite, a checkpoint of other settings, a folder that
            cannot be written; JAX running in several processes, whose gradients nobody averages;
            direct forces that no stage trains.
        Interrupted: after SIGTERM or SIGINT, when all is saved.
    """
    if jax.process_count() > 1:
        raise MlipError(
            f"JAX runs in {jax.process_count()} processes, but training runs in one: gradients "
            "are not averaged between processes. Leave out jax.distributed.initialize, or take the "
            "shares of the data that each process gets to a training loop of your own."
        )
    if has_direct_forces(model) and not any(one.forces for one in stage_weights(trainer, loss)):
        raise MlipError(
            "the model gives forces of its own (model.forces=direct) and no stage of the training "
            "gives forces a weight, so that they would stay as they were drawn; set "
            "model.forces=gradient, or loss.forces_weight above 0."
        )
    groups = {"trainer": trainer, "loss": loss, "optimizer": optimizer, "schedule": schedule}
    fingerprint = {name: group.model_dump(mode="json") for name, group in groups.items()}
    fingerprint |= settings or {}
    validates = valid_batches is not None
    plan = Plan(trainer, loss, optimizer, schedule, len(train_batches), validates)
    with ExitStack() as stack:
        reporter = reporter or make_reporter()
        stack.callback(reporter.close)
        watch = stack.enter_context(
            InterruptWatch(
                lambda _: reporter.notice(STOPPING), lambda: _last_words(reporter, run_dir)
            )
        )
        run = Run(
            model,
            train_batches,
            valid_batches,
            plan=plan,
            trainer=trainer,
            loss=loss,
            optimizer=optimizer,
            run_dir=Path(run_dir),
            fingerprint=fingerprint,
            reporter=reporter,
            watch=watch,
            data_warnings=data_warnings,
        )
        stack.callback(run.close)
        run.train()
        return run.result()


def _last_words(reporter: Reporter, run_dir: Path | str) -> None:
    """Say what is left when a second signal ends the process."""
    reporter.notice(
        f"Left at once; the same command goes on from the last checkpoint in {run_dir}."
    )
    reporter.close()
