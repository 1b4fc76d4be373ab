"""`Settings`: the base of every typed, validated, immutable group of options."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Options of one part of the program; unknown keys and bad values raise at construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
