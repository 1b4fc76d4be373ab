"""What the typed configs of several verbs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mlip.cli.resolvers import label
from mlip.settings import Settings


def _files_by_name(data: Any) -> Any:
    """A file, or a list of them, as a mapping by short names."""
    files = [data] if isinstance(data, str) else data
    return {label(file): file for file in files} if isinstance(files, list) else files


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
