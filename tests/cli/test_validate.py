import pytest

from mlip.cli.compose import compose
from mlip.cli.schema import SCHEMAS
from mlip.cli.validate import validate
from mlip.errors import MlipError

QUICKSTART = ["experiment=quickstart"]


def message(verb, overrides):
    with pytest.raises(MlipError) as caught:
        validate(SCHEMAS[verb], compose(verb.replace(" ", "_"), overrides))
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.chanels=3", ["Unknown key model.chanels=3", "Did you mean model.channels?"]),
        ("trainer.lr=3", ["Unknown key trainer.lr=3", "Did you mean optimizer.lr?"]),
        ("modle=mace", ["Unknown key modle=mace", "Did you mean model?"]),
        ("zzz=1", ["Unknown key zzz=1", "Known at the top: ", "dataset"]),
        ("model.channels=abc", ["model.channels=abc", "an integer", "channels of every degree"]),
        ("model.channels=-1", ["model.channels=-1", "at least 1"]),
        ("model.cutoff=-2", ["model.cutoff=-2", "above 0", "Å"]),
        ("model.interaction=densty", ["'plain'", "Did you mean density?"]),
        ("model.name=mcae", ["model.name=mcae", "Did you mean mace?"]),
        ("model={channels: x}", ["model.channels=x", "an integer"]),
        (
            "model.convolution.name=gaunt_gird",
            ["model.convolution.name", "Did you mean gaunt_grid?"],
        ),
        ("model=null", ["model is not set"]),
        ("dataset.e0=foo", ["dataset.e0=foo", "'isolated'", "a mapping"]),
        ("dataset.e0={H: x}", ["dataset.e0.H=x: expected a number"]),
        ("dataset.e0=-13.6", ["dataset.e0: found -13.6", "'dataset.e0={H: -13.6, O: -2041.8}'"]),
        ("dataset.tests=hot.xyz", ["dataset.tests: found 'hot.xyz'", "{hot: hot.xyz}"]),
        (
            "dataset.tests.hot={file: hot.xyz, keys: {energy: E}}",
            ["dataset.tests.hot: how a single file is read stands under source", "source: {keys"],
        ),
        ("dataset.keys=E", ["dataset.keys: found 'E'", "keys.energy=REF_energy"]),
        (
            "dataset.e0=least_squares",
            ["isolated_atoms=isolated_atoms.xyz would have no effect", "set it to null"],
        ),
        ("optimizer.name=amsgard", ["optimizer.name", "amsgrad"]),
        ("resume=maybe", ["resume=maybe", "true or false"]),
        ("trainer.max_epochs=1.5", ["trainer.max_epochs=1.5", "an integer"]),
        ("init_from=x.mlip", ["init_from", "x.mlip was not found"]),
    ],
)
def test_one_sentence_names_key_value_and_remedy(override, parts):
    text = message("train", [*QUICKSTART, override])
    for part in parts:
        assert part in text
    assert "\n" not in text
    assert "pydantic" not in text


def test_only_keys_of_the_chosen_model_are_suggested():
    """`hidden_lmax` is one of MACE's; the two models describe `channels` in other words."""
    text = message("train", [*QUICKSTART, "model=nequip", "model.hidden_lmax=1"])
    assert text.startswith("Unknown key model.hidden_lmax=1: nequip takes elements, cutoff, ")
    assert text.endswith("; hidden_lmax is an option of mace.")
    assert "scale_shift" in text
    assert "correlation" not in text
    text = message("train", [*QUICKSTART, "model=nequip", "model.zzz=1"])
    assert text.startswith("Unknown key model.zzz=1. Known in model: name, ")
    text = message("train", [*QUICKSTART, "model=nequip", "model.scaleshift=element"])
    assert text.endswith("Did you mean model.scale_shift?")
    text = message("train", [*QUICKSTART, "model=nequip", "model.channels=[4, 0, 0]"])
    assert "model.channels.1=0" in text
    assert "one for each degree" in text
    text = message("info", ["model=nequip", "dataset=quickstart", "model.chanels=3"])
    assert text == "Unknown key model.chanels=3. Did you mean model.channels?"


def test_several_mistakes_are_told_one_a_line():
    text = message("train", [*QUICKSTART, "model.chanels=3", "trainer.seed=x"])
    assert len(text.splitlines()) == 2


def test_named_subsets_are_places_like_any_other():
    text = message("train", [*QUICKSTART, "dataset.tests.hot={file: a.xyz, excl: true}"])
    assert text == "Unknown key dataset.tests.hot.excl=True."


def test_what_must_be_given_says_how():
    assert "dataset.train=..." in message("train", [])
    assert "model is not set" in message("evaluate", ["data=test.xyz"])
    assert "structure is not set" in message("md", ["model=x.mlip"])


def test_evaluate_wants_exactly_one_source(tmp_path):
    model = tmp_path / "model.mlip"
    model.touch()
    assert "either data" in message("evaluate", [f"model={model}"])
    given = [f"model={model}", "data=a.xyz", "dataset=quickstart"]
    assert "either data" in message("evaluate", given)


def test_evaluate_names_subsets_after_their_files(tmp_path):
    model = tmp_path / "model.mlip"
    model.touch()
    overrides = [f"model={model}", "data=[a/hot.xyz,b/cold.xyz@0:10]"]
    settings = validate(SCHEMAS["evaluate"], compose("evaluate", overrides))
    assert settings.data == {"hot": "a/hot.xyz", "cold": "b/cold.xyz@0:10"}


def test_what_follows_from_the_data_may_be_left_open_or_given():
    settings = validate(SCHEMAS["train"], compose("train", QUICKSTART))
    assert settings.model.elements is None
    assert settings.model.avg_num_neighbors is None
    given = [*QUICKSTART, "model.elements=[1,6]", "model.scale=2.0"]
    settings = validate(SCHEMAS["train"], compose("train", given))
    assert settings.model.elements == (1, 6)
    assert settings.model.scale == 2.0
    assert "model.scale=-1" in message("train", [*QUICKSTART, "model.scale=-1"])
