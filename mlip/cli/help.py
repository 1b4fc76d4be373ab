"""The text of `mlip --help` and `mlip VERB --help`, without a heavy import."""

from __future__ import annotations

from mlip.cli.catalog import (
    VERBS,
    Verb,
    active_groups,
    config_dir,
    default_keys,
    description,
    options,
)

LONG = 24  # values from this length on do not widen the column

FLAGS = (
    ("--cfg", "print the resolved config, every key with its meaning, and exit"),
    ("-m, --multirun", "one run per combination of comma-separated values: model.channels=16,32"),
    ("-h, --help", "this text"),
)


def overview() -> str:
    """The text of `mlip --help`."""
    width = max(map(len, VERBS))
    lines = ["Machine-learning interatomic potentials in JAX.", ""]
    lines += ["usage: mlip VERB [CONFIG.yaml] [key=value ...] [--cfg] [--multirun] [--help]", ""]
    lines += ["verbs:"]
    lines += [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values()]
    lines += ["", "examples:"]
    lines += [f"  {verb.examples[0]}" for verb in VERBS.values()]
    lines += ["", "`mlip VERB --help` lists what can be chosen; energies in eV, lengths in Å."]
    return "\n".join(lines)


def verb_help(verb: Verb) -> str:
    """The text of `mlip VERB --help`: flags, config groups with their options, examples."""
    lines = [description(config_dir() / f"{verb.config_name}.yaml"), ""]
    lines += [f"usage: mlip {verb.name} [CONFIG.yaml] [key=value ...]", ""]
    lines += ["flags:"]
    lines += [f"  {flag:<16}{override}" for flag, override in verb.shortcuts.items()]
    lines += [f"  {flag:<16}{text}" for flag, text in FLAGS]
    groups = active_groups(verb.config_name)
    if groups:
        lines += ["", "config groups, chosen as GROUP=OPTION (* is the default):"]
    for group, default in groups.items():
        lines += [f"  {group}"]
        for option, text in options(group).items():
            mark = "*" if option == default else " "
            lines += [f"   {mark}{option:<19} {text}"]
    keys = default_keys(verb.config_name)
    width = max(len(f"{key.name}={key.value}") for key in keys if len(key.value) < LONG)
    lines += ["", "keys, set as KEY=VALUE (shown with the default; other options may have others):"]
    lines += [f"  {f'{key.name}={key.value}':<{width}}  {key.meaning}".rstrip() for key in keys]
    lines += ["", "examples:", *(f"  {example}" for example in verb.examples)]
    return "\n".join(lines)
