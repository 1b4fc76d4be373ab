"""`Settings`: the base of every typed, validated, immutable group of options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Options of one part of the program; unknown keys and bad values raise at construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def require_default(self, names: Iterable[str], why: str) -> None:
        """Refuse options that were changed where they have no effect.

        A composed config gives every option, so that only another value than the default shows
        that it was asked for.

        Args:
            names: the options.
            why: when they have an effect, as in "only for ensemble=npt".

        Raises:
            ValueError: for the first one that is not at its default; a validator's kind of error.
        """
        for name in names:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                unset = "null" if default is None else default
                raise ValueError(
                    f"{name}={value} would have no effect ({why}); leave it out, or set it to "
                    f"{unset}"
                )


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
