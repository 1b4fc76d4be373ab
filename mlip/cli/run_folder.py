"""The run folder: created, checked against an earlier run, and given its `config.yaml`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from mlip.cli.render import to_yaml
from mlip.errors import MlipError
from mlip.settings import Settings

# Keys that may differ when a run is continued: limits and output, nothing that shapes the steps.
MAY_CHANGE = ("run.", "resume", "n_threads", "logger.", "trainer.max_", "benchmark.")


def open_run_folder(run_dir: Path, settings: Settings, *, resume: bool) -> bool:
    """Create or reopen a run folder and write the resolved config into it.

    Args:
        run_dir: `runs/NAME`.
        settings: the resolved config of this command.
        resume: whether an earlier run in the folder may be continued.

    Returns:
        Whether the folder already held a run with this config.

    Raises:
        MlipError: if the folder holds a run of another config, holds anything although
            `resume=false`, or cannot be written to.
    """
    config = run_dir / "config.yaml"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        found = any(run_dir.iterdir())
        if found and not resume:
            raise MlipError(
                f"{run_dir} is not empty and resume=false: choose another run.name, or leave "
                "resume=true to continue the run that is there."
            )
        text = to_yaml(settings)
        continued = config.is_file()
        if continued:
            _check_same(config, yaml.safe_load(text))
        partial = config.with_suffix(".yaml.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, config)
    except OSError as error:
        raise MlipError(
            f"The run folder {run_dir} cannot be written to ({error.strerror or error}): choose "
            "another with run.dir=FOLDER, or free some space."
        ) from error
    return continued


def _check_same(config: Path, new: dict[str, Any]) -> None:
    try:
        old = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        old = None
    if not isinstance(old, dict):
        raise MlipError(
            f"{config} is damaged, so the run in its folder cannot be continued safely: choose "
            "another run.name, or delete the folder."
        )
    before, after = _flat(old), _flat(new)
    changed = [
        key
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        shown = "; ".join(f"{k} was {before.get(k)}, now {after.get(k)}" for k in changed[:3])
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise MlipError(
            f"{config.parent} holds a run with another config: {shown}{more}. Choose another "
            "run.name for the new config, or delete that folder."
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
