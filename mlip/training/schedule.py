"""Learning-rate schedules over the run's own limit, be it steps, epochs or minutes."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from mlip.settings import Settings


class ScheduleSettings(Settings):
    """How the learning rate changes over the run.

    `cosine` and `exponential` fall from the optimiser's `lr` to `lr * end_factor` exactly when
    the run reaches its limit (`max_epochs`, `max_steps` or `max_minutes`, whichever comes first).
    """

    name: Literal["constant", "cosine", "exponential", "plateau"] = Field(
        "cosine", description="shape of the schedule"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises linearly")
    warmup_share: float = Field(
        0.0, ge=0.0, lt=1.0, description="the same as a share of the run, whatever its length"
    )
    warmup_factor: float = Field(
        0.0, ge=0.0, le=1.0, description="rate at the start of the warm-up over rate at its end"
    )
    end_factor: float = Field(
        0.01, gt=0.0, le=1.0, description="cosine, exponential: rate at the end over rate at start"
    )
    factor: float = Field(
        0.8, gt=0.0, lt=1.0, description="plateau: the rate is multiplied by this"
    )
    patience: int = Field(
        50, ge=0, description="plateau: validations without a lower loss that are put up with"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_steps and self.warmup_share:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and warmup_share={self.warmup_share} contradict "
                "each other; set one of them to 0"
            )
        if not (self.warmup_steps or self.warmup_share):
            self.require_default(["warmup_factor"], "only with a warm-up")
        if self.name not in ("cosine", "exponential"):
            self.require_default(["end_factor"], "only for name=cosine and exponential")
        if self.name != "plateau":
            self.require_default(["factor", "patience"], "only for name=plateau")
        return self


def relative_rate(
    settings: ScheduleSettings, *, step: int, share: float, plateau_scale: float = 1.0
) -> float:
    """Learning rate over the optimiser's `lr`.

    Args:
        settings: the schedule.
        step: steps done so far.
        share: used share of the limit, 0 to 1.
        plateau_scale: product of the reductions made so far, for `plateau`.
    """
    share = min(max(share, 0.0), 1.0)
    end = settings.end_factor
    rate = {
        "constant": 1.0,
        "cosine": end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * share)),
        "exponential": end**share,
        "plateau": plateau_scale,
    }[settings.name]
    return rate * _warmup(settings, step, share)


def _warmup(settings: ScheduleSettings, step: int, share: float) -> float:
    """Factor of the rate during the warm-up, 1 after it."""
    done = 1.0
    if step < settings.warmup_steps:
        done = (step + 1) / (settings.warmup_steps + 1)
    elif share < settings.warmup_share:
        done = share / settings.warmup_share
    return settings.warmup_factor + (1.0 - settings.warmup_factor) * done
