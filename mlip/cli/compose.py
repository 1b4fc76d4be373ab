"""From config groups, a config file and overrides to one composed dictionary, by Hydra.

The order, later wins: the verb's primary config with its groups, the experiment, the architecture
of the saved model named by `init_from`, the config file given as a path, options of groups chosen
on the command line (`schedule=constant`), the `key=value` overrides.
Whether a key exists is not decided here but by the typed settings (`mlip.cli.validate`), so that
there is one place that knows the valid keys.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlip.cli.catalog import active_groups, config_dir, decided_by, options
from mlip.cli.overrides import Choice, Deletion, Override, Value, read_overrides
from mlip.cli.resolvers import register
from mlip.cli.suggest import SAVED_MODEL, completions, did_you_mean, listing, nearest
from mlip.cli.validate import is_mapping
from mlip.errors import MlipError


def compose(
    config_name: str, overrides: Sequence[str] = (), file: Path | None = None
) -> dict[str, Any]:
    """Compose the config of one run.

    Args:
        config_name: primary config, such as `train`.
        overrides: `group=option` and `key=value` items.
        file: a partial or complete config merged over the groups.

    Returns:
        Plain containers with interpolations resolved.

    Raises:
        MlipError: for an override that cannot be read, an unknown option, a bad file.
    """
    register()
    groups = active_groups(config_name)
    typed = read_overrides(overrides, groups)
    chosen, content = _read_file(file, groups, typed) if file else ([], {})
    items = [*chosen, *typed]
    choices = [item for item in items if isinstance(item, Choice)]
    config = _hydra_compose(config_name, choices)
    OmegaConf.set_struct(config, False)
    _choices_beat_the_experiment(config, config_name, choices)
    _take_over_architecture(config, content, items)
    _check_architecture(config, items)
    try:
        config.merge_with(OmegaConf.create(content))
        for item in items:
            _apply(config, item, config_name)
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise MlipError(f"The config cannot be resolved: {_first_line(error)}") from error


def _hydra_compose(config_name: str, choices: Sequence[Choice]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException, MissingConfigException

    for choice in choices:
        check_option(choice)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose(config_name, overrides=[f"{c.group}={c.option}" for c in choices])
    except MissingConfigException as error:
        raise MlipError(f"A config file is missing: {_first_line(error)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        for choice in choices:
            if f"Could not override '{choice.group}'" in str(error):
                raise MlipError(_no_such_place(config_name, choice, choices)) from error
        raise MlipError(f"The config cannot be composed: {_first_line(error)}") from error


def _no_such_place(config_name: str, choice: Choice, choices: Sequence[Choice]) -> str:
    """That the model chosen has no such place for an operator, and which ones it has."""
    config = _hydra_compose(config_name, [c for c in choices if "@" not in c.group])
    place = choice.group.partition("@")[2]
    section = place.partition(".")[0]
    there = [
        group
        for group in active_groups(config_name)
        if "@" in group and OmegaConf.select(config, group.partition("@")[2]) is not None
    ]
    takes = f"; it has {listing(there)}" if there else ", so leave this out"
    name = OmegaConf.select(config, f"{section}.name")
    return f"{choice.group}={choice.option}: {section}={name} has no {place}{takes}."


def _choices_beat_the_experiment(
    config: DictConfig, config_name: str, choices: Sequence[Choice]
) -> None:
    """Put an option that was asked for by name in the place of what the experiment says there."""
    explicit = [choice for choice in choices if choice.group != "experiment"]
    if len(explicit) == len(choices) or not explicit:
        return
    without = _hydra_compose(config_name, explicit)
    for choice in explicit:
        for key in decided_by(choice.group, choice.option):
            value = OmegaConf.select(without, key)
            if isinstance(value, DictConfig):
                value = OmegaConf.to_container(value, resolve=False)
            OmegaConf.update(config, key, value, merge=False)


def check_option(choice: Choice) -> None:
    """Raise for an option that its group does not have."""
    if choice.option in options(choice.group.partition("@")[0]):
        return  # one that does not fit the place is refused by the settings, with the reason
    known = options(choice.group)
    raise MlipError(
        f"{choice.group}={choice.option}: there is no such option; expected {choice.group}="
        f"{listing(known)}.{did_you_mean(completions(choice.option, known))}"
    )


def _read_file(
    file: Path, groups: dict[str, str | None], typed: Sequence[Override]
) -> tuple[list[Override], dict[str, Any]]:
    """The group choices of a config file and the rest of its content.

    A section whose `name` is an option of its group is merged over that option, so that a saved
    `config.yaml` reproduces the run whatever the defaults are. What is chosen for a group on the
    command line replaces what the file says there.
    """
    import yaml

    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except (yaml.YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise MlipError(f"Config file {file} is not valid YAML: {reason}.") from error
    if not isinstance(content, dict):
        raise MlipError(f"Config file {file} holds no keys; expected lines like 'model:'.")
    chosen = _chosen_in(file, content.pop("defaults", []), groups)
    for item in typed:
        if isinstance(item, Choice) and item.group != "experiment":
            check_option(item)
            chosen.pop(item.group, None)
            for key in decided_by(item.group, item.option):
                _remove(content, key)
    for group in groups:
        section = content.get(group)
        name = section.get("name") if isinstance(section, dict) else None
        if group not in chosen and name in options(group):
            chosen[group] = str(name)
    _forget_default_folder(content)
    return [Choice(group, option) for group, option in chosen.items()], content


def _chosen_in(file: Path, defaults: list[Any], groups: dict[str, str | None]) -> dict[str, str]:
    """Option by group in the `defaults:` list of a config file."""
    chosen: dict[str, str] = {}
    for entry in defaults:
        if entry == "_self_":
            continue
        if not isinstance(entry, dict) or len(entry) != 1:
            raise MlipError(f"{file}: in 'defaults', expected 'group: option', found '{entry}'.")
        ((group, option),) = entry.items()
        group = str(group).removeprefix("override ").strip().lstrip("/")
        if group not in groups:
            raise MlipError(
                f"{file}: '{group}' is not a config group; expected {listing(groups)}."
                f"{did_you_mean(nearest(group, groups))}"
            )
        chosen[group] = str(option)
    return chosen


def _remove(content: Any, key: str) -> None:
    """Remove a dotted key from nested mappings, if it is there."""
    *sections, leaf = key.split(".")
    for section in sections:
        content = content.get(section) if isinstance(content, dict) else None
    if isinstance(content, dict):
        content.pop(leaf, None)


def _forget_default_folder(content: dict[str, Any]) -> None:
    """Let the folder of a saved config follow a new `run.name` where it followed the old one."""
    run = content.get("run")
    if isinstance(run, dict) and run.get("dir") == f"runs/{run.get('name')}":
        del run["dir"]


def _take_over_architecture(
    config: DictConfig, content: dict[str, Any], items: Sequence[Override]
) -> None:
    """With `init_from`, the architecture is that of the saved model unless keys are given."""
    values = {item.key: item.value for item in items if isinstance(item, Value)}
    path = values.get("init_from", content.get("init_from"))
    if "init_from" not in config or not isinstance(path, str):
        return
    for item in items:
        if not isinstance(item, Choice) or "model" in content:
            continue
        place = item.group.partition("@")[2] or item.group
        if place.partition(".")[0] == "model":
            raise MlipError(
                f"{item.group}={item.option} and init_from={path} contradict each other: the "
                "weights fit the saved model's architecture only; leave one of them out."
            )
    if Path(path).expanduser().is_file():
        from mlip.io.saved_model import adopt_fits

        config["model"] = saved_architecture(Path(path).expanduser())
        adopt_fits(Path(path).expanduser())  # before the architecture is validated, which may fit


def _check_architecture(config: DictConfig, items: Sequence[Override]) -> None:
    """Raise for a name or a saved model on top of the keys of the architecture that is chosen."""
    chosen = OmegaConf.select(config, "model.name")
    for item in items:
        if not isinstance(item, Value) or item.key not in ("model", "model.name"):
            continue
        name = item.value.get("name") if isinstance(item.value, dict) else item.value
        if "init_from" in config and item.key == "model" and isinstance(item.value, str):
            inside = Path(item.value) / SAVED_MODEL
            raise MlipError(
                f"model={name}: the weights of a saved model are continued from by "
                f"init_from={inside if inside.is_file() else name}, which brings its architecture."
            )
        if chosen is not None and name in options("model") and name != chosen:
            raise MlipError(
                f"model.name={name}: an architecture is chosen by model={name}, which also brings "
                "its keys along; give that, and single keys beside it."
            )


def saved_architecture(path: Path) -> dict[str, Any]:
    """The model config in a saved model.

    Raises:
        MlipError: if the file is damaged.
    """
    import yaml

    try:
        with zipfile.ZipFile(path) as archive:
            return dict(yaml.safe_load(archive.read("config.yaml")))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, yaml.YAMLError) as error:
        raise MlipError(f"init_from={path} is not a saved model ({error}).") from error


def _apply(config: DictConfig, item: Override, config_name: str) -> None:
    if isinstance(item, Value):
        # A mapping of names that the user chooses is replaced; a section is merged.
        merge = not is_mapping(config_name, item.key)
        OmegaConf.update(config, item.key, item.value, merge=merge, force_add=True)
    elif isinstance(item, Deletion):
        section, _, leaf = item.key.rpartition(".")
        parent = OmegaConf.select(config, section) if section else config
        if not isinstance(parent, DictConfig) or leaf not in parent:
            raise MlipError(f"~{item.key}: there is no such key to remove.")
        del parent[leaf]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
