"""Reading `key=value` items with Hydra's grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlip.cli.catalog import options
from mlip.cli.suggest import SAVED_MODEL, did_you_mean, listing, nearest
from mlip.errors import MlipError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as HydraOverride


class Choice(NamedTuple):
    """`model=mace`: an option of a config group.

    The group carries the place it is put at if that is another: `tensor_product@model.product`.
    """

    group: str
    option: str


class Value(NamedTuple):
    """`model.channels=64`: a value."""

    key: str
    value: Any


class Deletion(NamedTuple):
    """`~dataset.tests`: a key to leave out."""

    key: str


Override = Choice | Value | Deletion


def parse_override(item: str) -> HydraOverride:
    """Parse one item with Hydra's grammar.

    A value that the grammar has no rule for (`structure=~/josé (2).xyz`) is taken as it stands.

    Raises:
        MlipError: for an item that cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = item.partition("=")
    parser = OverridesParser.create()
    try:
        parsed = parser.parse_override(item)
    except HydraException as error:
        if value[:1] in ("", "'", '"', "[", "{") or not key.strip():
            raise MlipError(_syntax_message(item)) from error
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        try:
            parsed = parser.parse_override(f'{key}="{escaped}"')
        except HydraException:
            raise MlipError(_syntax_message(item)) from error
    if not parsed.key_or_group:
        raise MlipError(_syntax_message(item))
    return parsed


def read_overrides(items: Sequence[str], groups: Mapping[str, str | None]) -> list[Override]:
    """Sort overrides into group choices, values and deletions.

    Args:
        items: as typed.
        groups: the config groups of the verb with their default options.

    Raises:
        MlipError: for a syntax error, or a sweep without `--multirun`.
    """
    result: list[Override] = []
    for item in items:
        parsed = parse_override(item)
        key = parsed.key_or_group.replace("/", ".")
        if parsed.package is not None:
            key = f"{key}@{parsed.package}"
            if key not in groups:
                placed = [group for group in groups if "@" in group]
                raise MlipError(
                    f"'{item}': {key} is not a config group; expected {listing(placed)}."
                    f"{did_you_mean(nearest(key, placed))}"
                )
        if parsed.is_sweep_override():
            a_list = "" if key in groups else f", or write a list as {key}=[...]"
            raise MlipError(
                f"'{item}' gives several values: add --multirun to make one run for each{a_list}."
            )
        if parsed.is_delete():
            result.append(Deletion(key))
        elif key in groups and _is_option(key, parsed.value()):
            result.append(Choice(key, str(parsed.value())))
        elif key in groups and parsed.value() is None and groups[key] is None:
            continue  # `experiment=null` when none is chosen by default
        else:
            value = _plain(parsed)
            if isinstance(value, str):
                _require_place(item, key, value, groups)
            result.append(Value(key, value))
    return result


def _require_place(item: str, key: str, value: str, groups: Mapping[str, str | None]) -> None:
    """Raise where only one half of `tensor_product@model.convolution` is given."""
    meant = []
    for group in groups:
        folder, _, place = group.partition("@")
        leaf = place.rpartition(".")[2]
        if place and key in (place, leaf, folder, f"{folder}.{leaf}"):
            meant.append(f"{group}={value}")
    if meant:
        raise MlipError(
            f"'{item}': what to take and where to put it stand together: write {listing(meant)}."
        )


def _is_option(group: str, value: Any) -> bool:
    """Whether a value given to a group names an option: no null, mapping, saved model or folder."""
    if value is None or isinstance(value, dict):
        return False
    path = Path(str(value))
    is_model = path.suffix == ".mlip" or (path / SAVED_MODEL).is_file()
    return not is_model or str(value) in options(group)


def _plain(parsed: HydraOverride) -> Any:
    """The value as plain Python, with Hydra's quoted strings unwrapped."""
    from omegaconf import OmegaConf

    value = parsed.value()
    if isinstance(value, dict | list):
        return OmegaConf.to_container(OmegaConf.create(value))
    return value


def _syntax_message(item: str) -> str:
    key, _, value = item.partition("=")
    if key.strip() not in (key, "") and " " not in key.strip():
        return f"Cannot read '{item}': write {key.strip()}={value.strip()} without spaces."
    if value[:1] in ("'", '"', "[", "{"):
        return f"Cannot read the value in '{item}': expected balanced quotes and brackets."
    return (
        f"Cannot read '{item}': expected key=value with a key of letters, digits, '_' and '.', "
        "for example model.channels=64."
    )
