"""`Settings`: the base of every typed, validated, immutable group of options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mlip.errors import MlipError


class Settings(BaseModel):
    """Options of one part of the program; unknown keys and bad values raise at construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def __init__(self, **values: Any) -> None:
        """Check the options.

        Raises:
            MlipError: one sentence on those that are unknown or have bad values.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise MlipError(_in_one_sentence(type(self), error)) from None

    # So that pydantic checks nested settings itself: its errors then name the whole way to a key.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

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


def _in_one_sentence(settings: type[Settings], error: ValidationError) -> str:
    clauses = []
    for detail in error.errors(include_url=False):
        key = ".".join(map(str, detail["loc"]))
        message = detail["msg"].removeprefix("Value error, ").rstrip(".")
        if detail["type"] == "extra_forbidden":
            known = ", ".join(settings.model_fields)
            clauses.append(f"there is no option {key}; the options are {known}")
        elif detail["type"] == "missing":
            clauses.append(f"{key} is missing")
        elif detail["type"] == "value_error":
            clauses.append(f"{key}: {message}" if key else message)
        else:
            clauses.append(f"{key}={detail['input']}: {message[0].lower()}{message[1:]}")
    return f"{settings.__name__}: {'; '.join(clauses)}."


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
