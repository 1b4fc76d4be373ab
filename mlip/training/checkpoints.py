"""Training checkpoints: written in the background, whole or not at all, and verified when read."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from mlip.errors import MlipError
from mlip.settings import flatten

FORMAT_VERSION = 1


class Saved(NamedTuple):
    """A checkpoint as read.

    Attributes:
        step: optimiser steps done.
        arrays: by name.
        meta: everything else, as given to `Checkpoints.save`.
    """

    step: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run folder, one folder per saved step.

    Args:
        folder: made when absent.
        keep: number of newest checkpoints that stay.
        notify: told in one sentence of checkpoints that are skipped.

    Raises:
        MlipError: when the folder cannot be made.
    """

    def __init__(self, folder: Path, keep: int, notify: Callable[[str], None]) -> None:
        self.folder = folder.resolve()
        self._notify = notify
        # Orbax logs every save, and errors with a traceback: here they are raised, in one sentence.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        _remove_unfinished(self.folder)
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except (OSError, ValueError) as error:
            raise MlipError(
                f"cannot write checkpoints to {self.folder}: {error}; make the folder writable or "
                "choose another run folder."
            ) from error

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Start to write a checkpoint and return; a step that is saved already is left as it is.

        Raises:
            MlipError: when this or the previous checkpoint cannot be written.
        """
        if step in self._manager.all_steps():
            return
        checksums = {name: _checksum(array) for name, array in arrays.items()}
        content = {**meta, "format_version": FORMAT_VERSION, "checksums": checksums}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(dict(arrays)), meta=ocp.args.JsonSave(content)
                ),
                force=True,
            )
        except Exception as error:  # orbax and tensorstore raise many types for a full disk
            raise self._unwritable(error) from error

    def wait(self) -> None:
        """Block until the last checkpoint is safely on disk.

        Raises:
            MlipError: when it cannot be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Free the threads; call `wait` before, which reports errors."""
        for _ in range(2):  # after a failed write, the first only raises its error
            try:
                self._manager.close()
            except Exception:  # told by `wait` already
                logging.getLogger(__name__).debug("closing the checkpoints failed", exc_info=True)
            else:
                return

    def newest(self, settings: Mapping[str, Any], may_change: set[str]) -> Saved | None:
        """The newest checkpoint that can be read, or None when there is none at all.

        Damaged ones are moved aside to `STEP.damaged` and reported.

        Args:
            settings: nested settings of this run, to be equal to those of the checkpoint.
            may_change: dotted names of settings that need not be.

        Raises:
            MlipError: when the checkpoint belongs to other settings, or none of them is readable.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                saved = self._read(step)
            except Exception as error:  # whatever a damaged file makes orbax raise
                self._set_aside(step, error)
                continue
            self._check_settings(saved, settings, may_change)
            return saved
        if steps:
            raise MlipError(
                f"none of the {len(steps)} checkpoints in {self.folder} can be read; they were "
                "moved aside to *.damaged. Start the same command again to train from the "
                "beginning, or choose another run name."
            )
        return None

    def _read(self, step: int) -> Saved:
        content = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()),
        )
        meta = dict(content.meta)
        if meta["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {meta['format_version']}")
        arrays = {name: np.asarray(value) for name, value in content.state.items()}
        for name, expected in meta["checksums"].items():
            if _checksum(arrays[name]) != expected:
                raise ValueError(f"the checksum of {name} is wrong")
        return Saved(step, arrays, meta)

    def _set_aside(self, step: int, error: Exception) -> None:
        target = self.folder / f"{step}.damaged"
        shutil.rmtree(target, ignore_errors=True)
        (self.folder / str(step)).rename(target)
        self._manager.reload()
        self._notify(
            f"Checkpoint {step} is damaged and skipped (kept as {target.name}): {_reason(error)}."
        )

    def _check_settings(
        self, saved: Saved, settings: Mapping[str, Any], may_change: set[str]
    ) -> None:
        before = flatten(saved.meta["settings"])
        now = flatten(json.loads(json.dumps(settings)))  # as it would have been saved
        changed = [
            (name, before.get(name), now.get(name))
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        refused = [item for item in changed if item[0] not in may_change]
        if refused:
            listed = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in refused)
            raise MlipError(
                f"{self.folder} holds a checkpoint (step {saved.step}) of a run with other "
                f"settings: {listed}. Restore these settings to resume it, or choose another run "
                "name to start a new run."
            )
        for name, old, new in changed:
            self._notify(f"Changed since the checkpoint: {name} was {old!r}, now {new!r}.")

    def _unwritable(self, error: Exception) -> MlipError:
        steps = self._manager.all_steps()
        kept = f"the last good one is of step {max(steps)}" if steps else "there is none yet"
        return MlipError(
            f"a checkpoint could not be written to {self.folder}: {_reason(error)}; {kept}. "
            f"{self._free_space()}Make room or correct the permissions and start the same command "
            "again: it resumes."
        )

    def _free_space(self) -> str:
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            return ""
        return f"The disk has {free / 1e6:.1f} MB left. "


def _remove_unfinished(folder: Path) -> None:
    """Remove what a process left that was stopped while it wrote a checkpoint.

    Orbax would do it in the background, and fail the next save if a file comes or goes meanwhile.
    What cannot be removed does no harm, and whether the folder can be written a save will tell.
    """
    for leftover in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _reason(error: Exception) -> str:
    """The operating system's reason where there is one, else the first line of the message."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code is not None:
        return os.strerror(int(code.group(1)))
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else repr(error)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())
