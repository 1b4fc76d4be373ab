"""The run folder: created and checked before any work, and given its `config.yaml`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlip.cli.render import to_yaml
from mlip.errors import MlipError
from mlip.settings import Settings


def open_run_folder(run_dir: Path, *, resume: bool = True) -> None:
    """Create a run folder, or reopen it, and make sure that it can be written to.

    Args:
        run_dir: `runs/NAME`.
        resume: whether the folder may hold anything yet.

    Raises:
        MlipError: if it is not empty although `resume` is false, or cannot be written to.
    """
    with writing_to(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir) as probe:
            probe.write(b"0" * 4096)
        if not resume and any(run_dir.iterdir()):
            raise MlipError(
                f"{run_dir} is not empty and resume=false: choose another run.name, or leave "
                "resume=true to continue the run that is there."
            )


def has_checkpoints(run_dir: Path) -> bool:
    """Whether something was trained in the folder already."""
    return any((run_dir / "checkpoints").glob("[0-9]*"))


def write_config(run_dir: Path, settings: Settings) -> None:
    """Write `config.yaml`, whole or not at all."""
    write_text(run_dir / "config.yaml", to_yaml(settings))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MlipError: if it cannot be written.
    """
    with writing_to(path.parent):
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one clear sentence."""
    try:
        yield
    except OSError as error:
        raise MlipError(
            f"The run folder {folder} cannot be written to ({error.strerror or error}): choose "
            "another with run.dir=FOLDER, or free some space."
        ) from error
