import pytest

from mlip.cli.overrides import Choice, Deletion, Value, parse_override, read_overrides
from mlip.errors import MlipError

GROUPS = {"model": "mace", "experiment": None}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("model=mace", Choice("model", "mace")),
        ("model=runs/a/model.mlip", Value("model", "runs/a/model.mlip")),
        ("model={name: mace}", Value("model", {"name": "mace"})),
        ("model.channels=64", Value("model.channels", 64)),
        ("+model.channels=64", Value("model.channels", 64)),
        ("lr=1e-3", Value("lr", 1e-3)),
        ("x=null", Value("x", None)),
        ("x=true", Value("x", True)),
        ("x=[1,2]", Value("x", [1, 2])),
        ("x={H: -13.6}", Value("x", {"H": -13.6})),
        ("~dataset.tests", Deletion("dataset.tests")),
        ("file=mixed.xyz@0:100", Value("file", "mixed.xyz@0:100")),
    ],
)
def test_reading(item, expected):
    assert read_overrides([item], GROUPS) == [expected]


@pytest.mark.parametrize(
    "path", ["~/model.mlip", "/data/josé/a.xyz", "/data/set (2)/a.xyz", "a=b.xyz", 'say "x".xyz']
)
def test_paths_that_the_grammar_refuses_are_taken_as_they_stand(path):
    assert read_overrides([f"structure={path}"], GROUPS) == [Value("structure", path)]


def test_null_for_an_optional_group_changes_nothing():
    assert read_overrides(["experiment=null"], GROUPS) == []


@pytest.mark.parametrize("item", ["=3", "a b=3", "x=[1,2", "x='a", "x={a: 1"])
def test_syntax_errors_are_one_sentence(item):
    with pytest.raises(MlipError) as caught:
        parse_override(item)
    message = str(caught.value)
    assert item in message
    assert "\n" not in message
    assert "Exception" not in message


def test_a_group_put_where_it_does_not_belong_is_told_with_the_places_that_there_are():
    groups = {"model": "mace", "tensor_product@model.product": "symmetric_contraction"}
    chosen = read_overrides(["tensor_product@model.product=cp"], groups)
    assert chosen == [Choice("tensor_product@model.product", "cp")]
    with pytest.raises(MlipError, match=r"Did you mean tensor_product@model\.product"):
        read_overrides(["tensor_product@model.prodct=cp"], groups)


def test_sweep_needs_multirun():
    with pytest.raises(MlipError, match="--multirun"):
        read_overrides(["model.channels=16,32"], GROUPS)
