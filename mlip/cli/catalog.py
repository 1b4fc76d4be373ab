"""What can be chosen: the verbs, and the config groups and options found in the config folder.

Everything here is read from file names and comment lines, so that `--help` needs no YAML,
Hydra, pydantic or JAX import and answers at once.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from mlip.errors import MlipError


class Verb(NamedTuple):
    """One command.

    Attributes:
        name: as typed after `mlip`.
        module: module of `mlip.cli` with `run(settings)`.
        summary: one line for the help.
        examples: command lines to copy.
    """

    name: str
    module: str
    summary: str
    examples: tuple[str, ...]

    @property
    def config_name(self) -> str:
        """Name of the primary config file: `benchmark model` is composed from `benchmark_model`."""
        return self.name.replace(" ", "_")


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "train",
            "train",
            "train a potential, or resume the run in the same folder",
            (
                "mlip train experiment=quickstart",
                "mlip train dataset.train=my.xyz dataset.e0=least_squares model.channels=96",
                "mlip train my.yaml trainer.max_epochs=5",
                "mlip train -m experiment=quickstart model.channels=16,32",
            ),
        ),
        Verb(
            "evaluate",
            "evaluate",
            "errors of a saved potential on labelled structures",
            (
                "mlip evaluate model=runs/quickstart/model.mlip data=test.xyz",
                "mlip evaluate model=runs/quickstart/model.mlip dataset=quickstart",
            ),
        ),
        Verb(
            "md",
            "md",
            "molecular dynamics through ASE: NVE, NVT or NPT",
            (
                "mlip md model=model.mlip structure=start.xyz md.time=10",
                "mlip md model=model.mlip structure=start.xyz md.ensemble=langevin",
            ),
        ),
        Verb(
            "relax",
            "relax",
            "relax positions and, on request, the cell",
            ("mlip relax model=model.mlip structure=start.cif relax.relax_cell=true",),
        ),
        Verb(
            "info",
            "info",
            "describe a saved potential or a model config: parameters, elements, cost",
            ("mlip info model=model.mlip", "mlip info model=mace dataset=quickstart"),
        ),
        Verb(
            "benchmark model",
            "benchmark_model",
            "time a training step and an ASE step, written to benchmark.json",
            (
                "mlip benchmark model",
                "mlip benchmark model model=mace_small dataset=3bpa dataset.root=3bpa/",
            ),
        ),
    )
}


@cache
def config_dir() -> Path:
    """The folder of config files: `mlip/configs` when installed, `configs/` in a clone."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise MlipError(
        f"The config files of mlip were not found in {package / 'configs'} or "
        f"{package.parent / 'configs'}; reinstall the package."
    )


def active_groups(config_name: str) -> dict[str, str | None]:
    """The config groups of a verb and their default options, from its `defaults:` list."""
    groups: dict[str, str | None] = {}
    inside = False
    for line in (config_dir() / f"{config_name}.yaml").read_text().splitlines():
        if line.startswith("defaults:"):
            inside = True
        elif inside and line and not line[0].isspace():
            break
        elif inside and ":" in line and not line.strip().startswith("#"):
            group, option = line.split("#")[0].strip().lstrip("- ").split(":")
            groups[group.strip()] = None if option.strip() == "null" else option.strip()
    return groups


def options(group: str) -> dict[str, str]:
    """The options of a group and what each is: the first comment line of its file."""
    return {path.stem: description(path) for path in sorted((config_dir() / group).glob("*.yaml"))}


def description(path: Path) -> str:
    """The first comment line of a config file that is not a Hydra directive."""
    for line in path.read_text().splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""
