"""The run folder: created and checked before any work, and given its `config.yaml`."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlip.cli.render import to_yaml
from mlip.data.file_lock import lock_file
from mlip.errors import MlipError
from mlip.settings import Settings

LOCK = ".command"  # in the run folder: locked while a command works there, and says which one
SUBJECT = "subject.json"  # of which model and data the results are


@contextmanager
def open_run_folder(run_dir: Path, command: str, *, resume: bool = True) -> Iterator[None]:
    """Create a run folder, or reopen it, and keep other commands out of it meanwhile.

    A command that ends without having written anything leaves no folder behind.

    Args:
        run_dir: `runs/NAME`.
        command: the verb, such as "train"; a folder keeps the results of one verb.
        resume: whether the folder may hold anything yet.

    Raises:
        MlipError: if it cannot be written to, another process works in it, it holds the results
            of another verb, or it is not empty although `resume` is false.
    """
    made = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        with _locked(run_dir, command, resume):
            yield
    finally:
        _remove_if_empty(run_dir, made)


@contextmanager
def _locked(run_dir: Path, command: str, resume: bool) -> Iterator[None]:
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


def _remove_if_empty(run_dir: Path, made: list[Path]) -> None:
    """Remove the lock of a command that wrote nothing, and the folders made for it."""
    with suppress(OSError):  # not empty, or not ours to remove
        if [path.name for path in run_dir.iterdir()] == [LOCK]:
            (run_dir / LOCK).unlink()
        for folder in made:
            folder.rmdir()


def require_subject(run_dir: Path, subject: Mapping[str, str]) -> None:
    """Refuse a folder whose `subject.json` says that the results there are of something else.

    Args:
        run_dir: the run folder.
        subject: what the results to come are of, by option of the command.

    Raises:
        MlipError: if the folder holds the results of another model or other data.
    """
    path = run_dir / SUBJECT
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for option, value in subject.items():
        if before.get(option) != value:
            raise MlipError(
                f"{run_dir} holds results of {option}={before.get(option)}, which those of "
                f"{option}={value} would overwrite: choose another run.name, or remove the folder."
            )


def file_with_hash(path: Path) -> str:
    """A file's name and the beginning of its SHA-256, which tells it from others of that name."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{path.resolve()} (SHA-256 {digest[:12]})"


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
