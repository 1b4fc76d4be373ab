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
from mlip.data.file_lock import lock_file
from mlip.errors import MlipError
from mlip.settings import Settings

LOCK = ".command"  # in the run folder: locked while a command works there, and says which one


@contextmanager
def open_run_folder(run_dir: Path, command: str, *, resume: bool = True) -> Iterator[None]:
    """Create a run folder, or reopen it, and keep other commands out of it meanwhile.

    Args:
        run_dir: `runs/NAME`.
        command: the verb, such as "train"; a folder keeps the results of one verb.
        resume: whether the folder may hold anything yet.

    Raises:
        MlipError: if it cannot be written to, another process works in it, it holds the results
            of another verb, or it is not empty although `resume` is false.
    """
    with writing_to(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir) as probe:
            probe.write(b"0" * 4096)
        lock = (run_dir / LOCK).open("a+", encoding="utf-8")
    with lock:
        lock_file(
            lock,
            f"another mlip command is at work in {run_dir}: wait for its end, or choose another "
            "run.name.",
        )
        lock.seek(0)
        _check_content(run_dir, lock.read(), command, resume)
        lock.truncate(0)
        lock.write(command)
        lock.flush()
        yield


def _check_content(run_dir: Path, before: str, command: str, resume: bool) -> None:
    if all(path.name == LOCK for path in run_dir.iterdir()):
        return
    if not resume:
        raise MlipError(
            f"{run_dir} is not empty and resume=false: choose another run.name, or leave "
            "resume=true to continue the run that is there."
        )
    before = before or ("train" if has_checkpoints(run_dir) else command)
    if before != command:
        raise MlipError(
            f"{run_dir} holds the results of mlip {before}, which mlip {command} would partly "
            "overwrite: choose another run.name or run.dir."
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
