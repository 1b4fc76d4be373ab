"""What can be chosen: the verbs, and the config groups and options found in the config folder.

Everything here is read from file names and comment lines, so that `--help` needs no YAML,
Hydra, pydantic or JAX import and answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mlip.errors import MlipError


class Verb(NamedTuple):
    """One command.

    Attributes:
        name: as typed after `mlip`.
        module: module of `mlip.cli` with `run(settings)`.
        summary: one line for the help.
        examples: command lines to copy.
        shortcuts: flags of this command alone, with the override that each stands for.
        file_key: what a file of structures is given as.
        resumes: after an interruption, the same command goes on.
    """

    name: str
    module: str
    summary: str
    examples: tuple[str, ...]
    shortcuts: Mapping[str, str] = MappingProxyType({})
    file_key: str | None = None
    resumes: bool = False

    @property
    def config_name(self) -> str:
        """Name of the primary config file: `benchmark model` is composed from `benchmark_model`."""
        return self.name.replace(" ", "_").replace("-", "_")


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
            file_key="dataset.train",
            resumes=True,
        ),
        Verb(
            "evaluate",
            "evaluate",
            "errors of a saved potential on labelled structures",
            (
                "mlip evaluate model=runs/quickstart/model.mlip data=test.xyz",
                "mlip evaluate model=runs/quickstart/model.mlip dataset=quickstart",
            ),
            file_key="data",
        ),
        Verb(
            "md",
            "md",
            "molecular dynamics through ASE: NVE, NVT or NPT",
            (
                "mlip md model=model.mlip structure=start.xyz md.time=10",
                "mlip md model=model.mlip structure=start.xyz run.name=nvt md.ensemble=langevin",
            ),
            file_key="structure",
            resumes=True,
        ),
        Verb(
            "relax",
            "relax",
            "relax positions and, on request, the cell",
            ("mlip relax model=model.mlip structure=start.cif relax.relax_cell=true",),
            file_key="structure",
        ),
        Verb(
            "info",
            "info",
            "describe a saved potential or a model config: parameters, elements, cost",
            ("mlip info model=model.mlip", "mlip info model=mace dataset=quickstart"),
        ),
        Verb(
            "data inspect",
            "data_inspect",
            "counts, sizes, label ranges, duplicates, doubtful units: a table and a page",
            (
                "mlip data inspect data=my_data.xyz",
                "mlip data inspect dataset=oc20 dataset.root=oc20/",
            ),
            file_key="data",
        ),
        Verb(
            "data prepare",
            "data_prepare",
            "any labelled file or folder to one file that is read fast; resumes",
            (
                "mlip data prepare data=Data06.lmdb output=qcr.lmdb",
                "mlip data prepare data=s2ef_train_2M output=oc20_2M.lmdb on_bad_record=skip",
            ),
            file_key="data",
            resumes=True,
        ),
        Verb(
            "data convert",
            "data_convert",
            "write labelled structures in another format, labels unchanged",
            (
                "mlip data convert data=my_data.xyz output=my_data.aselmdb",
                "mlip data convert data=data.0000.lmdb output=first.xyz",
            ),
            file_key="data",
        ),
        Verb(
            "data split",
            "data_split",
            "training, validation and test data that have nothing in common",
            (
                "mlip data split data=my_data.xyz output=split",
                "mlip data split data=qcr.lmdb output=split by=trajectory files=.lmdb",
            ),
            file_key="data",
        ),
        Verb(
            "data download",
            "data_download",
            "fetch a public data set; resumes and verifies",
            (
                "mlip data download name=3bpa",
                "mlip data download name=oc20 files=[s2ef_train_2M.tar,s2ef_val_id.tar]",
            ),
            resumes=True,
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
        Verb(
            "benchmark tensor-products",
            "benchmark_tensor_products",
            "time every tensor product: a table, figures, a summary",
            (
                "mlip benchmark tensor-products --quick",
                "mlip benchmark tensor-products preset.degrees=[2,4] preset.sizes=[[156,64]]",
                "mlip benchmark tensor-products preset.operators=[so2] preset.variants=[]",
            ),
            {"--quick": "preset=quick"},
            resumes=True,
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
    """The config groups of a verb and their default options, from its `defaults:` list.

    A group that an option of a group brings along is named with the place where it is put, as on
    the command line: `tensor_product@model.product`.
    """
    groups: dict[str, str | None] = {}
    for group, option in _defaults(config_dir() / f"{config_name}.yaml"):
        groups[group] = option
        files = sorted((config_dir() / group).glob("*.yaml"))
        for path in sorted(files, key=lambda file: file.stem != option):  # the default option first
            for nested, default in _defaults(path):
                folder, _, place = nested.removeprefix("/").partition("@")
                if nested.startswith("/") and place:
                    groups.setdefault(f"{folder}@{group}.{place}", default)
    return groups


def _defaults(path: Path) -> Iterator[tuple[str, str | None]]:
    """The groups in the `defaults:` list of a config file, without the overrides."""
    inside = False
    for line in path.read_text().splitlines():
        if line.startswith("defaults:"):
            inside = True
        elif inside and line and not line[0].isspace():
            return
        elif inside and ":" in line and not line.strip().startswith("#"):
            group, option = line.split("#")[0].strip().lstrip("- ").split(":")
            if not group.startswith("override "):
                yield group.strip(), None if option.strip() == "null" else option.strip()


def options(group: str) -> dict[str, str]:
    """The options of a group and what each is: the first comment line of its file.

    An option for one of the places where a group is put says so by a line `# only as: product`,
    and is left out in the others.
    """
    folder, _, place = group.partition("@")
    paths = sorted((config_dir() / folder).glob("*.yaml"))
    return {path.stem: description(path) for path in paths if _fits(path, place)}


def _fits(path: Path, place: str) -> bool:
    """Whether an option can stand at a place such as `model.product`; true without a place."""
    line = re.search(r"^# only as: (\w+)$", path.read_text(), re.MULTILINE)
    return not place or line is None or line[1] == place.rpartition(".")[2]


def decided_by(group: str, option: str) -> list[str]:
    """The dotted keys that an option decides: its section, or its keys in that of another group."""
    folder, _, place = group.partition("@")
    path = config_dir() / folder / f"{option}.yaml"
    if "# @package " in path.read_text():
        return [key.name for key in _keys_of(path, "")]
    return [place or group]


def description(path: Path) -> str:
    """The first comment line of a config file that is not a Hydra directive."""
    for line in path.read_text().splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""


class Key(NamedTuple):
    """One key of a config file.

    Attributes:
        name: dotted, with its section.
        value: as written in the file.
        meaning: the comment beside it.
    """

    name: str
    value: str
    meaning: str


def default_keys(config_name: str) -> list[Key]:
    """The keys a verb takes with the default options of its groups, in the order of the files."""
    keys = _keys_of(config_dir() / f"{config_name}.yaml", "")
    for group, option in active_groups(config_name).items():
        if option is not None:
            folder, _, place = group.partition("@")
            keys += _keys_of(config_dir() / folder / f"{option}.yaml", place or folder)
    return keys


def _keys_of(path: Path, section: str) -> list[Key]:
    """The keys of a config file, read line by line; its layout is block style throughout."""
    keys: list[Key] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text().splitlines():
        if line.startswith("# @package "):
            section = line.removeprefix("# @package ").strip()
        match = re.fullmatch(r"( *)(\w+):(?: +([^#]*?))?\s*(?:# *(.*))?", line)
        if match is None:
            continue
        indent, name, value, meaning = len(match[1]), match[2], match[3] or "", match[4] or ""
        parents = [(depth, parent) for depth, parent in parents if depth < indent]
        path_ = [section, *(parent for _, parent in parents), name]
        parents.append((indent, name))
        keys.append(Key(".".join(part for part in path_ if part), value, meaning))
    return [key for key in keys if key.value and not key.name.startswith("defaults")]
