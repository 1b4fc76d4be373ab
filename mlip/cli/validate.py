"""Typed validation of a composed config, with mistakes told as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mlip.cli.catalog import VERBS
from mlip.cli.suggest import did_you_mean, listing, nearest, nearest_key
from mlip.errors import MlipError
from mlip.settings import Settings

S = TypeVar("S", bound=Settings)

EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list such as [1, 2]",
    "tuple": "a list such as [1, 2]",
    "dict": "a mapping such as {name: value}",
    "model": "a section with keys of its own",
}  # by the first word of pydantic's error type
BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}
SYNONYMS = {"nvt": "langevin"}  # what others call a choice

CONSTRAINED = "constrained-str"  # pydantic's name of the branch of a text with a pattern


class Place(NamedTuple):
    """Where in the config an error lies.

    Attributes:
        key: the dotted key as the user would type it.
        field: the innermost field on the way, which says what is expected.
    """

    key: str
    field: FieldInfo | None


def validate(schema: type[S], composed: Mapping[str, Any]) -> S:
    """Build the settings of a verb from its composed config.

    Raises:
        MlipError: one sentence for each unknown key or bad value.
    """
    try:
        return schema.model_validate(dict(composed))
    except ValidationError as error:
        places: dict[str, Place] = {}
        details: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            place = locate(detail, schema)
            places.setdefault(place.key, place)
            details.setdefault(place.key, []).append(detail)
        known = list(known_keys(schema, composed))
        sentences = [
            _sentence(places[key], details[key], known)
            for key in places
            if not any(other.startswith(f"{key}.") for other in places)
        ]
        raise MlipError("\n             ".join(sentences)) from error


def known_keys(schema: type[BaseModel], content: Any = None, prefix: str = "") -> Iterator[str]:
    """All dotted keys of nested settings, sections before their content.

    Args:
        schema: the settings.
        content: a config; where it names one of several settings (`model.name`), the keys of the
            others are left out.
        prefix: put before the keys.
    """
    for name, field in schema.model_fields.items():
        yield prefix + name
        if not _is_container(field.annotation):
            inside = content.get(name) if isinstance(content, Mapping) else None
            chosen = inside.get("name") if isinstance(inside, Mapping) else None
            for nested in _named(chosen, nested_settings(field.annotation)):
                yield from known_keys(nested, inside, f"{prefix}{name}.")


def _named(name: Any, classes: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """Of alternative settings those that bear a name; all of them if none does."""
    fields = [(c, c.model_fields.get("name")) for c in classes]
    return [c for c, field in fields if field and field.default == name] or classes


def is_mapping(config_name: str, key: str) -> bool:
    """Whether a key holds a mapping with names of the user's choice, such as `dataset.tests`."""
    from mlip.cli.schema import SCHEMAS

    (verb,) = (verb.name for verb in VERBS.values() if verb.config_name == config_name)
    classes: list[type[BaseModel]] = [SCHEMAS[verb]]
    annotation: Any = None
    for part in key.split("."):
        fields = [c.model_fields[part] for c in classes if part in c.model_fields]
        annotation = fields[0].annotation if fields else None
        classes = [] if _is_container(annotation) else nested_settings(annotation)
    return _is_container(annotation)


def locate(detail: ErrorDetails, schema: type[BaseModel]) -> Place:
    """Follow pydantic's location through the settings, leaving out the names of union branches."""
    classes: list[type[BaseModel]] = [schema]
    field: FieldInfo | None = None
    path: list[str] = []
    in_container = False
    for position, part in enumerate(detail["loc"]):
        if not in_container:
            classes = _named(part, classes)
        found = next((c.model_fields[part] for c in classes if part in c.model_fields), None)
        is_last = position == len(detail["loc"]) - 1
        if found is not None and not in_container:
            field, classes = found, nested_settings(found.annotation)
            in_container = _is_container(found.annotation)
            path.append(str(part))
        elif in_container and "[" not in str(part) and part != CONSTRAINED:
            in_container = False
            path.append(str(part))
        elif is_last and detail["type"] == "extra_forbidden":
            path.append(str(part))
    return Place(".".join(path), field)


def _is_container(annotation: Any) -> bool:
    """Whether an annotation has entries of any key or index (`dict`, `list`, `tuple`)."""
    if get_origin(annotation) in (dict, list, tuple, Mapping, Sequence):
        return True
    return any(_is_container(part) for part in get_args(annotation))


def nested_settings(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in an annotation such as `A`, `A | None` or `A | B`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in nested_settings(part)]


def _sentence(place: Place, details: list[ErrorDetails], known: Sequence[str]) -> str:
    key, first = place.key, details[0]
    value = first["input"]
    if first["type"] == "extra_forbidden":
        shown = "" if isinstance(value, dict) else f"={_show(value)}"
        return f"Unknown key {key}{shown}{_what_is_known(place, first, known)}"
    if first["type"] == "union_tag_not_found":
        return (
            f"{key}={_show(value)} does not say what it is of; expected a name beside it, one of "
            f"{', '.join(_by_name(place.field))}."
        )
    if first["type"] == "union_tag_invalid":
        key, value = f"{key}.name", first["ctx"]["tag"]
    if first["type"] == "value_error":
        return _as_sentence(key, first["msg"].removeprefix("Value error, "))
    meaning = place.field.description if place.field else None
    hint = f" ({meaning})" if meaning else ""
    if first["type"] == "missing" or value is None:
        return f"{key} is not set{hint}; give it as {key}=..."
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    choices = [choice for detail in details for choice in _choices(detail)]
    suggestion = did_you_mean(_meant(str(value), choices)) if choices else ""
    if str(value).lower() == "none" and place.field and _takes_none(place.field.annotation):
        suggestion = f" For none write {key}=null."
    return f"{key}={_show(value)}: expected {expected}{hint}.{suggestion}"


def _meant(value: str, choices: Sequence[str]) -> str | None:
    synonym = SYNONYMS.get(value.lower())
    return synonym if synonym in choices else nearest(value, choices)


def _takes_none(annotation: Any) -> bool:
    return annotation is type(None) or any(map(_takes_none, get_args(annotation)))


def _as_sentence(key: str, message: str) -> str:
    """A message behind its key, begun in lower case there, ended with a full stop."""
    first = message.partition(" ")[0]
    if key:
        # An ordinary word, not a name such as MACE or GauntGrid.
        start = first.lower() if first.isalpha() and first.istitle() else first
        message = f"{key}: {start}{message[len(first) :]}"
    return message if message.endswith((".", "?")) else f"{message}."


def _by_name(field: FieldInfo | None) -> dict[str, type[BaseModel]]:
    """The alternative settings of a field that a name tells apart, by this name."""
    classes = nested_settings(field.annotation) if field else []
    return {str(c.model_fields["name"].default): c for c in classes if "name" in c.model_fields}


def _what_is_known(place: Place, detail: ErrorDetails, known: Sequence[str]) -> str:
    """What could have been meant by an unknown key."""
    section, _, leaf = place.key.rpartition(".")
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
    alternatives = _by_name(place.field)
    chosen = next((str(part) for part in detail["loc"] if part in alternatives), None)
    others = [name for name, one in alternatives.items() if leaf in one.model_fields]
    if chosen and others:
        options = ", ".join(name for name in siblings if name != "name") or "no options"
        return f": {chosen} takes {options}; {leaf} is an option of {listing(others)}."
    suggestion = nearest_key(place.key, known)
    if suggestion and (not chosen or section == suggestion.rpartition(".")[0]):
        return f".{did_you_mean(suggestion)}"
    where = f"in {section}" if section else "at the top"
    return f". Known {where}: {', '.join(siblings)}." if siblings else "."


def _expected(detail: ErrorDetails) -> str:
    """`Input should be greater than 0` as `a number above 0`."""
    kind = detail["type"]
    if kind == "union_tag_invalid":
        return f"one of {detail['ctx']['expected_tags']}"
    if kind in BOUNDS:
        return "a number " + BOUNDS[kind].format(**detail.get("ctx", {}))
    if kind.split("_")[0] in EXPECTED:
        return EXPECTED[kind.split("_")[0]]
    text = detail["msg"].removeprefix("Input should be ").removeprefix("Value should have ")
    return text[0].lower() + text[1:]


def _choices(detail: ErrorDetails) -> list[str]:
    context = detail.get("ctx", {})
    text = str(context.get("expected_tags") or context.get("expected", ""))
    return [part.strip(" '") for part in text.replace(" or ", ", ").split(",") if part.strip()]


def _show(value: Any) -> str:
    text = str(value)
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{key}: {entry}' for key, entry in value.items())}}}"
    return text if len(text) <= 60 else text[:57] + "..."
