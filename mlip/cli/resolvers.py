"""The two functions that config files may call: `${mlip_dataset:NAME}` and `${mlip_label:...}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mlip.errors import MlipError


def register() -> None:
    """Make the functions known to OmegaConf; safe to call again."""
    OmegaConf.register_new_resolver("mlip_dataset", dataset_folder, replace=True)
    OmegaConf.register_new_resolver("mlip_label", label, replace=True)


def dataset_folder(name: str) -> str:
    """Folder of an embedded data set: in the installed package, or in the clone.

    Raises:
        MlipError: if it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "datasets" / name, package.parent / "datasets" / name):
        if folder.is_dir():
            return str(folder)
    raise MlipError(
        f"The embedded data set {name} was not found in {package / 'datasets'} or "
        f"{package.parent / 'datasets'}; a wheel has quickstart only: set dataset.root to the "
        f"folder datasets/{name} of a clone."
    )


def label(*values: Any) -> str:
    """A short name for the first thing that is given: a file, some files or a data set.

    Of a file it is the stem, or the folder's name for `runs/NAME/model.mlip`; of several files by
    name their names; of a data set its name.
    """
    value = next((value for value in values if value is not None), None)
    if isinstance(value, Mapping):
        return str(value["name"]) if "name" in value else "-".join(map(str, value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(map(label, value))
    if not isinstance(value, str):
        return "none"
    path = Path(value.partition("@")[0])
    return path.parent.name if path.stem == "model" and path.parent.name else path.stem
