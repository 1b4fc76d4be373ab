import pytest
import yaml

from mlip.cli.catalog import VERBS, active_groups, config_dir, options
from mlip.cli.compose import compose
from mlip.cli.schema import FROM_DATA, SCHEMAS
from mlip.cli.validate import known_keys, validate
from mlip.errors import MlipError
from mlip.tensor_products.registry import OPERATORS

NEEDED = {  # what a user must give before a config is complete
    "train": ["dataset.train=train.xyz"],
    "3bpa": ["dataset.root=somewhere"],
    "3bpa_full": ["dataset.root=somewhere"],
    "oc20": ["dataset.root=somewhere"],
    "oc20_is2re": ["dataset.root=somewhere"],
    "oc20_s2ef": ["dataset.root=somewhere"],
    "pubchemqcr": ["dataset.root=somewhere"],
    "tdn_oc20": ["dataset.root=somewhere"],
    "tdn_oc20_is2re": ["dataset.root=somewhere"],
    "tdn_pubchemqcr": ["dataset.root=somewhere"],
}


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield prefix + str(key)
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


def test_groups_experiment_and_overrides_in_that_order():
    config = compose("train", ["experiment=quickstart", "model.channels=48"])
    assert config["dataset"]["name"] == "quickstart"
    assert config["run"] == {"name": "quickstart", "dir": "runs/quickstart"}
    assert config["model"]["channels"] == 48
    assert config["trainer"]["max_epochs"] is None


def test_run_name_follows_data_and_model_without_an_experiment():
    config = compose("train", ["dataset=3bpa", "model=mace_small"])
    assert config["run"] == {"name": "3bpa-mace", "dir": "runs/3bpa-mace"}
    assert compose("train", ["run.name=mine"])["run"]["dir"] == "runs/mine"


def test_group_option_beats_the_experiment():
    config = compose("train", ["experiment=quickstart", "schedule=plateau"])
    assert config["schedule"]["name"] == "plateau"


def test_an_option_asked_for_by_name_beats_what_the_experiment_says_of_it():
    config = compose("train", ["experiment=quickstart", "model=mace_large", "loss=l1"])
    assert (
        config["model"]["channels"] == compose("train", ["model=mace_large"])["model"]["channels"]
    )
    assert config["loss"] == compose("train", ["loss=l1"])["loss"]
    assert config["trainer"] == compose("train", ["experiment=quickstart"])["trainer"]


def test_a_mapping_of_own_names_is_replaced_and_a_section_is_merged():
    config = compose("train", ["dataset=quickstart", "dataset.tests={hot: hot.xyz}"])
    assert config["dataset"]["tests"] == {"hot": "hot.xyz"}
    assert compose("train", ["dataset=quickstart", "dataset.tests={}"])["dataset"]["tests"] == {}
    assert compose("train", ["dataset.e0={H: -13.6}"])["dataset"]["e0"] == {"H": -13.6}
    merged = compose("train", ["loss={forces_weight: 7}"])["loss"]
    assert merged == compose("train", ["loss.forces_weight=7"])["loss"]


@pytest.mark.parametrize("group", sorted(active_groups("train")))
def test_every_option_of_every_group_is_valid(group):
    for option in options(group):
        overrides = [f"{group}={option}", *NEEDED.get(option, [])]
        if group not in ("dataset", "experiment") or option == "extxyz":
            overrides += NEEDED["train"]
        validate(SCHEMAS["train"], compose("train", overrides))


def test_operators_are_offered_where_they_can_stand():
    for place in ("tensor_product@model.convolution", "tensor_product@model.product"):
        role = place.rpartition(".")[2]
        able = {name for name, operator in OPERATORS.items() if role in operator.roles}
        assert set(options(place)) == {*able, "auto", "cp_paper"}


def written_keys(config_name):
    """The keys in the config files of a verb."""
    yield from flat(yaml.safe_load((config_dir() / f"{config_name}.yaml").read_text()))
    for group in active_groups(config_name):
        folder, _, place = group.partition("@")
        for path in (config_dir() / folder).glob("*.yaml"):
            text = path.read_text()
            first = text.splitlines()[0]
            package = first.removeprefix("# @package ") if "@package" in first else place or folder
            prefix = "" if package == "_global_" else f"{package}."
            yield from (package, *flat(yaml.safe_load(text), prefix))


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_key_of_the_schema_stands_in_a_config_file(verb):
    """So that a reader of `configs/` sees all there is to set."""
    missing = set(known_keys(SCHEMAS[verb.name])) - set(written_keys(verb.config_name))
    from_data = (f"model.{name}" for name in FROM_DATA)
    rarely_needed = ("trainer.second_stage.", "dataset.preflight", *from_data)
    missing = {key for key in missing if not key.startswith(rarely_needed)}
    assert not missing


def test_file_is_merged_over_groups_and_under_overrides(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("model: {channels: 24}\ntrainer: {max_epochs: 7, batch_size: 2}\n")
    config = compose("train", ["trainer.max_epochs=5"], file)
    assert config["model"]["channels"] == 24
    assert config["model"]["lmax"] == 3
    assert config["trainer"]["max_epochs"] == 5
    assert config["trainer"]["batch_size"] == 2


def test_file_may_choose_groups_by_a_defaults_list_or_by_name(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("defaults:\n  - override /model: mace_large\n  - dataset: 3bpa\n  - _self_\n")
    config = compose("train", [], file)
    assert config["model"]["channels"] == 128
    assert config["dataset"]["name"] == "3bpa"
    file.write_text("schedule: {name: plateau, patience: 3}\n")
    schedule = compose("train", [], file)["schedule"]
    assert schedule["patience"] == 3
    assert "end_factor" not in schedule


def test_an_option_of_the_command_line_replaces_the_section_of_the_file(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(
        "defaults: [loss: huber]\nloss: {huber_delta: 0.2}\n"
        "schedule: {name: plateau, patience: 3}\n"
        "model: {channels: 24, convolution: {name: matrix}}\n"
        "trainer: {tensorboard: false, max_epochs: 7}\n"
    )
    place = "tensor_product@model.convolution"
    words = ["schedule=constant", "loss=l1", f"{place}=so2", "logger=tensorboard"]
    config = compose("train", words, file)
    for group in ("schedule", "loss"):
        assert config[group] == compose("train", words)[group]
    assert (config["model"]["channels"], config["model"]["convolution"]["name"]) == (24, "so2")
    assert (config["trainer"]["tensorboard"], config["trainer"]["max_epochs"]) == (True, 7)
    experiment = compose("train", ["experiment=quickstart", "logger=tensorboard"])
    assert experiment["trainer"]["tensorboard"] is True


def test_resolved_config_read_back_gives_the_same_settings(tmp_path):
    from mlip.cli.render import to_yaml

    overrides = ["experiment=quickstart", "schedule=exponential", "optimizer.lr=2.5e-5"]
    settings = validate(SCHEMAS["train"], compose("train", overrides))
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings))
    again = validate(SCHEMAS["train"], compose("train", [], file))
    assert again == settings


def test_new_name_for_a_saved_config_gives_it_a_new_folder(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("run: {name: old, dir: runs/old}\n")
    assert compose("train", [], file)["run"] == {"name": "old", "dir": "runs/old"}
    assert compose("train", ["run.name=new"], file)["run"]["dir"] == "runs/new"
    file.write_text("run: {name: old, dir: /scratch/old}\n")
    assert compose("train", ["run.name=new"], file)["run"]["dir"] == "/scratch/old"


def test_info_takes_an_architecture_or_a_file():
    assert compose("info", ["model=mace_small"])["model"]["channels"] == 32
    assert compose("info", ["model=a/model.mlip"])["model"] == "a/model.mlip"


def test_folders_of_other_verbs_are_named_after_their_input():
    config = compose("evaluate", ["model=runs/water/model.mlip", "data=test.xyz"])
    assert config["run"]["dir"] == "runs/evaluate-water-test"
    config = compose("evaluate", ["model=runs/water/model.mlip", "dataset=quickstart"])
    assert config["run"]["dir"] == "runs/evaluate-water-quickstart"
    assert compose("md", ["structure=start.xyz"])["run"]["name"] == "md-start"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [unclosed", "not valid YAML"),
        ("- a list", "holds no keys"),
        ("defaults: [modle: mace]", "'modle' is not a config group.*Did you mean model"),
        ("defaults: [model]", "expected 'group: option'"),
        ("defaults: [model: mcae]", "Did you mean mace"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(MlipError, match=message):
        compose("train", [], file)


def test_config_files_are_valid_yaml_without_repeated_keys():
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in config_dir().rglob("*.yaml"):
        yaml.load(path.read_text(), Strict)
