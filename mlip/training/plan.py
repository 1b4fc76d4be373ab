"""What the settings make of a run's position: used share, stage, loss weights, learning rate."""

from __future__ import annotations

from mlip.errors import MlipError
from mlip.training.loss import LossSettings, LossWeights
from mlip.training.optimizer import OptimizerSettings
from mlip.training.schedule import ScheduleSettings, relative_rate
from mlip.training.settings import TrainerSettings
from mlip.training.state import Bookkeeping

# A plateau ends only by an improvement of more than this share, as in torch's scheduler.
PLATEAU_THRESHOLD = 1e-4


class Plan:
    """The course of a run: every decision that depends on its position alone.

    Args:
        trainer: limits and stages.
        loss: weights of the first stage.
        optimizer: learning rate of the first stage.
        schedule: shape of the learning rate.
        batches_per_epoch: steps in a pass over the data.
        validates: there is a validation set.

    Raises:
        MlipError: when something that needs a validation set is asked for without one.
    """

    def __init__(
        self,
        trainer: TrainerSettings,
        loss: LossSettings,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        batches_per_epoch: int,
        validates: bool,
    ) -> None:
        needs = {
            "schedule.name=plateau": schedule.name == "plateau",
            "trainer.early_stopping": trainer.early_stopping is not None,
            "trainer.keep=best": trainer.keep == "best",
        }
        wanting = [name for name, needed in needs.items() if needed and not validates]
        if wanting:
            raise MlipError(
                f"{wanting[0]} needs a validation set and there is none; give dataset.valid or "
                "dataset.valid_fraction, or choose otherwise."
            )
        self._trainer, self._schedule = trainer, schedule
        self._lr, self._batches = optimizer.lr, batches_per_epoch
        self._stages = stage_weights(trainer, loss)

    def weights(self, book: Bookkeeping) -> LossWeights:
        """Loss weights of the current stage."""
        return self._stages[book.stage - 1]

    def share(self, book: Bookkeeping) -> float:
        """Used share of the limit that is nearest, 0 to 1."""
        return min(1.0, max(self._shares(book).values()))

    def stop_reason(self, book: Bookkeeping) -> str | None:
        """Why the run is over, or None."""
        for limit, share in self._shares(book).items():
            if share >= 1.0:
                return limit
        patience = self._trainer.early_stopping
        if patience is not None and book.stage == len(self._stages) and book.waited >= patience:
            return "early_stopping"
        return None

    def enters_second_stage(self, book: Bookkeeping) -> bool:
        """The second stage begins at this position."""
        second = self._trainer.second_stage
        return second is not None and book.stage == 1 and self.share(book) >= second.start

    def lr(self, book: Bookkeeping) -> float:
        """Learning rate of the next step."""
        share, base = self.share(book), self._lr
        second = self._trainer.second_stage
        if second is not None and second.lr is not None:
            # Each stage is a run of its own to the schedule.
            if book.stage == 1:
                share /= second.start
            else:
                share, base = (share - second.start) / (1.0 - second.start), second.lr
        return base * relative_rate(
            self._schedule, step=book.step, share=share, plateau_scale=book.plateau_scale
        )

    def start_second_stage(self, book: Bookkeeping) -> None:
        """Note that the second stage begins: losses are compared anew."""
        book.stage = 2
        book.best_loss, book.waited = None, 0
        book.plateau_loss, book.plateau_waited = None, 0
        second = self._trainer.second_stage
        if second is not None and second.lr is not None:
            book.plateau_scale = 1.0

    def record_validation(self, book: Bookkeeping, loss: float) -> bool:
        """Note a validation loss; returns whether it is the lowest of the stage."""
        if book.plateau_loss is None or loss < book.plateau_loss * (1.0 - PLATEAU_THRESHOLD):
            book.plateau_loss, book.plateau_waited = loss, 0
        else:
            book.plateau_waited += 1
            if book.plateau_waited > self._schedule.patience:
                book.plateau_scale *= self._schedule.factor
                book.plateau_waited = 0
        if book.best_loss is None or loss < book.best_loss:
            book.best_loss, book.best_step, book.waited = loss, book.step, 0
            return True
        book.waited += 1
        return False

    def _shares(self, book: Bookkeeping) -> dict[str, float]:
        trainer, shares = self._trainer, {}
        if trainer.max_epochs is not None:
            epochs = book.epoch + book.batch / self._batches
            shares["max_epochs"] = epochs / trainer.max_epochs
        if trainer.max_steps is not None:
            shares["max_steps"] = book.step / trainer.max_steps
        if trainer.max_minutes is not None:
            # The validation at the end is part of the user's minutes.
            budget = 60.0 * trainer.max_minutes - 1.1 * book.validation_seconds
            shares["max_minutes"] = book.seconds / budget if budget > 0.0 else 1.0
        return shares


def stage_weights(trainer: TrainerSettings, loss: LossSettings) -> list[LossWeights]:
    """Weights by stage; a term without weight in all stages is None and costs nothing."""
    stages = [loss.weights]
    second = trainer.second_stage
    if second is not None:
        given = (second.energy_weight, second.forces_weight, second.stress_weight)
        stages.append(
            LossWeights(
                *(old if new is None else new for new, old in zip(given, loss.weights, strict=True))
            )
        )
    used = [any(weights) for weights in zip(*stages, strict=True)]
    return [
        LossWeights(*(w if u else None for w, u in zip(stage, used, strict=True)))
        for stage in stages
    ]
