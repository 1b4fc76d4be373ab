"""What the typed configs of several verbs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mlip.cli.resolvers import label
from mlip.data.dataset_settings import DatasetSettings
from mlip.settings import Settings


def _files_by_name(data: Any) -> Any:
    """A file, or a list of them, as a mapping by short names."""
    files = [data] if isinstance(data, str) else data
    return {label(file): file for file in files} if isinstance(files, list) else files


def refuse_parts_of_a_data_set(config: type[Settings], values: Any) -> Any:
    """Refuse options of a data set beside `data`, which has none.

    Args:
        config: what has both `data` and `dataset`.
        values: what it is made of.

    Raises:
        ValueError: naming them; a validator's kind of error.
    """
    if not isinstance(values, Mapping) or values.get("data") is None:
        return values
    dataset, known = values.get("dataset"), DatasetSettings.model_fields
    stray = [name for name in known if name in values and name not in config.model_fields]
    if isinstance(dataset, Mapping) and "name" not in dataset:  # of no data set that was chosen
        stray += [f"dataset.{name}" for name in dataset]
    if stray:
        right = " ".join(f"dataset.{name.removeprefix('dataset.')}=…" for name in stray)
        raise ValueError(
            f"{', '.join(stray)} beside data=FILE: options of a data set need one; give "
            f"dataset=extxyz dataset.train=FILE {right} instead of data (the names of the labels "
            "in data=FILE are keys.energy=… and keys.forces=…)"
        )
    return values


def require_data_or_dataset(config: Settings, purpose: str) -> None:
    """Require one of `data` and `dataset`, and how it is read beside `data` alone.

    Args:
        config: what has both, and options that say how `data` is read.
        purpose: what the structures are for.

    Raises:
        ValueError: saying which; a validator's kind of error.
    """
    dataset = getattr(config, "dataset", None)
    if (getattr(config, "data", None) is None) == (dataset is None):
        raise ValueError(f"give either data=FILE or dataset=NAME, the structures to {purpose}")
    if dataset is None:
        return
    fields = type(config).model_fields
    stray = [
        name
        for name in fields
        if name in DatasetSettings.model_fields
        and getattr(config, name) != fields[name].get_default(call_default_factory=True)
    ]
    if stray:
        named = " and ".join(f"dataset.{name}" for name in stray)
        raise ValueError(
            f"{' and '.join(stray)} beside dataset=NAME would have no effect, since they say how "
            f"data=FILE is read; give them as {named}"
        )


FilesByName = Annotated[dict[str, str] | None, BeforeValidator(_files_by_name)]


class RunSettings(Settings):
    """Where a command writes."""

    name: str = Field(min_length=1, description="name of the run")
    dir: Path = Field(description="run folder")


class RunFolderConfig(Settings):
    """What every command that writes a run folder has."""

    run: RunSettings = Field(description="where the results go")


class CommandConfig(RunFolderConfig):
    """What every command has that computes and writes a run folder."""

    n_threads: int | None = Field(None, ge=1, description="CPU threads; null: all")
