"""`--help` names everything that can be chosen, and is instant because it imports nothing heavy."""

import os
import subprocess
import sys
import time

import pytest
import yaml

from mlip.cli.catalog import (
    VERBS,
    active_groups,
    config_dir,
    default_keys,
    description,
    options,
)
from mlip.cli.compose import compose
from mlip.cli.help import overview, verb_help

HEAVY = {"jax", "flax", "hydra", "omegaconf", "pydantic", "ase", "matplotlib", "rich", "yaml"}


def test_overview_lists_every_verb_with_its_summary():
    text = overview()
    for verb in VERBS.values():
        assert verb.name in text
        assert verb.summary in text


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_verb_help_lists_groups_options_and_keys_with_descriptions(verb):
    text = verb_help(verb)
    for group, default in active_groups(verb.config_name).items():
        for option, meaning in options(group).items():
            assert meaning, f"{group}/{option}.yaml has no describing first comment"
            assert f"{option} " in text
            assert meaning in text
        if default is not None:
            assert f"*{default}" in text
    for example in verb.examples:
        assert example in text


def test_every_config_file_says_what_it_is():
    for path in config_dir().rglob("*.yaml"):
        assert description(path), f"{path} has no describing first comment"


def test_all_group_folders_are_used_by_a_verb():
    folders = {path.name for path in config_dir().iterdir() if path.is_dir()}
    groups = {group for verb in VERBS.values() for group in active_groups(verb.config_name)}
    assert folders == {group.partition("@")[0] for group in groups}


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["benchmark", "--help"]])
def test_help_imports_nothing_heavy_and_answers_within_a_second(words, root):
    code = (
        "import sys; from mlip.cli.main import main; code = main(sys.argv[1:]); "
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules})); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        seconds.append(time.perf_counter() - start)
    loaded = set(done.stdout.rpartition("LOADED ")[2].split())
    assert not loaded & HEAVY
    assert min(seconds) < 1.0


def test_every_key_of_the_default_options_is_explained():
    for verb in VERBS.values():
        for key in default_keys(verb.config_name):
            assert key.meaning, f"{key.name} has no comment beside it"


def test_keys_read_for_the_help_are_those_that_are_composed():
    composed = compose("train", ["dataset.train=x.xyz"])
    for key in default_keys("train"):
        value = composed
        for part in key.name.split("."):
            value = value[part]
        if key.name != "dataset.train" and "$" not in key.value:
            assert value == yaml.safe_load(key.value), key.name
