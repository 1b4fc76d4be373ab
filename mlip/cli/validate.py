"""Typed validation of a composed config, with mistakes told as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mlip.cli.suggest import did_you_mean, nearest, nearest_key
from mlip.errors import MlipError
from mlip.settings import Settings

S = TypeVar("S", bound=Settings)

BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def validate(schema: type[S], composed: Mapping[str, Any]) -> S:
    """Build the settings of a verb from its composed config.

    Raises:
        MlipError: one sentence for each unknown key or bad value.
    """
    try:
        return schema.model_validate(dict(composed))
    except ValidationError as error:
        fields = dict(walk_fields(schema))
        problems: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            problems.setdefault(_key(detail["loc"], fields), []).append(detail)
        sentences = [_sentence(key, details, fields) for key, details in problems.items()]
        raise MlipError("\n            ".join(sentences)) from error


def walk_fields(
    schema: type[BaseModel], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, FieldInfo]]:
    """All dotted keys of nested settings with their fields, sections before their content."""
    for name, field in schema.model_fields.items():
        path = (*prefix, name)
        yield ".".join(path), field
        for nested in nested_settings(field.annotation):
            yield from walk_fields(nested, path)


def nested_settings(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in an annotation such as `A`, `A | None` or `A | B`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in nested_settings(part)]


def _key(location: Sequence[int | str], fields: Mapping[str, FieldInfo]) -> str:
    """The dotted key the user would type: pydantic's location without its union branches."""
    path: list[str] = []
    for part in location:
        key = ".".join([*path, str(part)])
        parent = ".".join(path)
        known = key in fields
        if known or not path or (parent in fields and _takes_any_key(fields[parent], part)):
            path.append(str(part))
        elif parent in fields and nested_settings(fields[parent].annotation):
            if part not in _tags(fields[parent]):
                path.append(str(part))
    return ".".join(path)


def _takes_any_key(field: FieldInfo, part: int | str) -> bool:
    """Whether `part` is an entry of a mapping or list rather than the name of a union branch."""
    text = str(field.annotation)
    is_branch = isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool"))
    return not is_branch and not nested_settings(field.annotation) and (
        isinstance(part, int) or "dict" in text.lower() or "mapping" in text.lower()
    )


def _tags(field: FieldInfo) -> set[str]:
    """Names of the branches of a union of settings, as pydantic writes them in a location."""
    classes = nested_settings(field.annotation)
    tags = {cls.__name__ for cls in classes} if len(classes) > 1 else set()
    for cls in classes:
        if "name" in cls.model_fields:
            tags.update(str(value) for value in get_args(cls.model_fields["name"].annotation))
    return tags


def _sentence(key: str, details: list[ErrorDetails], fields: Mapping[str, FieldInfo]) -> str:
    first = details[0]
    value = first["input"]
    if first["type"] == "extra_forbidden":
        known = [name for name in fields if name != key]
        shown = "" if isinstance(value, dict) else f"={_show(value)}"
        return f"Unknown key {key}{shown}.{did_you_mean(nearest_key(key, known))}"
    meaning = fields[key].description if key in fields else None
    if first["type"] == "missing" or (value is None and first["type"] != "value_error"):
        hint = f" ({meaning})" if meaning else ""
        return f"{key} is not set{hint}; give it as {key}=..."
    if first["type"] == "value_error":
        text = first["msg"].removeprefix("Value error, ")
        return text if not key or key in text else f"{key}: {text}"
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    hint = f" ({meaning})" if meaning else ""
    choices = [c for detail in details for c in _choices(detail)]
    suggestion = did_you_mean(nearest(str(value), choices)) if choices else ""
    return f"{key}={_show(value)}: expected {expected}{hint}.{suggestion}"


def _expected(detail: ErrorDetails) -> str:
    """`Input should be greater than 0` as `a number above 0`."""
    if detail["type"] in BOUNDS:
        return "a number " + BOUNDS[detail["type"]].format(**detail.get("ctx", {}))
    text = detail["msg"].split(", unable to")[0]
    for prefix in ("Input should be ", "Input should have ", "Value should have "):
        text = text.removeprefix(prefix)
    text = text.removeprefix("a valid ").replace("boolean", "true or false")
    articles = {"integer": "an integer", "number": "a number", "string": "text", "list": "a list"}
    text = articles.get(text, text).replace("a valid ", "a ")
    return text[0].lower() + text[1:]


def _choices(detail: ErrorDetails) -> list[str]:
    text = str(detail.get("ctx", {}).get("expected", ""))
    return [part.strip(" '") for part in text.replace(" or ", ", ").split(",") if part.strip()]


def _show(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
