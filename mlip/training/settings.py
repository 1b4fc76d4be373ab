"""`TrainerSettings`: how long to train, what to keep and how often to look."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mlip.settings import Settings

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


class SecondStageSettings(Settings):
    """The last part of a run, with other loss weights.

    Optimiser state and weight average carry over; the choice of the best weights, the plateau
    detection and early stopping start afresh, since losses with other weights do not compare.
    """

    start: float = Field(
        0.75, gt=0.0, lt=1.0, description="share of the run's limit at which the stage begins"
    )
    energy_weight: float | None = Field(
        None, ge=0.0, description="weight of the energy term; null keeps that of the first stage"
    )
    forces_weight: float | None = Field(
        None, ge=0.0, description="weight of the forces term; null keeps that of the first stage"
    )
    stress_weight: float | None = Field(
        None, ge=0.0, description="weight of the stress term; null keeps that of the first stage"
    )
    lr: float | None = Field(
        None,
        gt=0.0,
        description="learning rate the schedule restarts from; null lets it run on unbroken",
    )


class TrainerSettings(Settings):
    """Limits, averaging, validation, checkpoints and logging of a run."""

    seed: int = Field(0, ge=0, description="seed of the initial weights and of the data order")
    precision: Literal["float32", "float64"] = Field(
        "float32", description="floating-point type of weights and arithmetic"
    )
    batch_size: int = Field(5, ge=1, description="structures in a batch")
    max_epochs: int | None = Field(None, ge=1, description="limit on passes over the data")
    max_steps: int | None = Field(None, ge=1, description="limit on optimiser steps")
    max_minutes: float | None = Field(
        None,
        gt=0.0,
        description="limit on wall-clock minutes, compilation and validation included",
    )
    ema_decay: float = Field(
        0.99,
        ge=0.0,
        lt=1.0,
        description="decay of the running average of the weights that is evaluated; 0 turns it off",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="weights of the result: lowest validation loss, or the last ones"
    )
    second_stage: SecondStageSettings | None = Field(
        None, description="other loss weights for the last part of the run"
    )
    early_stopping: int | None = Field(
        None,
        ge=1,
        description="stop after this many validations without a lower loss (in the last stage)",
    )
    validate_steps: int | None = Field(
        None, ge=1, description="steps between validations; null validates after each epoch"
    )
    checkpoint_minutes: float = Field(
        2.0, ge=0.0, description="minutes between checkpoints; 0 saves after every step"
    )
    keep_checkpoints: int = Field(3, ge=1, description="newest checkpoints to keep")
    log_steps: int = Field(10, ge=1, description="steps between rows of training metrics")
    tensorboard: bool = Field(False, description="also write TensorBoard event files")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.max_epochs is None and self.max_steps is None and self.max_minutes is None:
            raise ValueError(
                "no limit is set: give at least one of max_epochs, max_steps and max_minutes"
            )
        return self
