"""What goes wrong with a tensor product is said in one sentence, at the prompt and in Python."""

import numpy as np
import pytest

from mlip.cli.main import main
from mlip.errors import MlipError
from mlip.tensor_products.build import build_convolution, build_product
from mlip.tensor_products.registry import OPERATORS

CONVOLUTION = "tensor_product@model.convolution"
TRAIN = ["train", "experiment=quickstart"]
BENCHMARK = ["benchmark", "tensor-products"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [*TRAIN, "model.convolution.rank=4"],
            "Unknown key model.convolution.rank=4: channelwise takes no options; rank is an option "
            "of cp.",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=so2", "model.convolution.paths=all"],
            "Unknown key model.convolution.paths=all: so2 takes mmax; paths is an option of "
            "path_shared or cp.",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=cp", "model.convolution.rnk=4"],
            "Unknown key model.convolution.rnk=4. Did you mean model.convolution.rank?",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=so2", "model.convolution.zzz=4"],
            "Unknown key model.convolution.zzz=4. Known in model.convolution: name, mmax.",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=cp", "model.convolution.rank=0"],
            "a rank of 0 was asked for; expected exact, paper or 1 or more.",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=auto", "model.convolution.family=gant"],
            "model.convolution: no convolution of family gant is known; expected clebsch_gordan or "
            "gaunt or path_shared. Did you mean gaunt?",
        ),
        (
            [*TRAIN, f"{CONVOLUTION}=so2,cp"],
            f"'{CONVOLUTION}=so2,cp' gives several values: add --multirun to make one run for "
            "each.",
        ),
        (
            [*BENCHMARK, "preset.variants=[{rank: 2}]"],
            "preset.variants.0={rank: 2} does not say what it is of; expected a name beside it, "
            "one of auto, channelwise, ",
        ),
        (
            [*BENCHMARK, "preset.operators=[gaunnt]"],
            "there is no operator gaunnt; expected some of channelwise, ",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_on_the_command_line(words, expected, capsys):
    assert main(words) == 2
    text = capsys.readouterr().err
    assert text.startswith("mlip: error: ")
    assert text.count("\n") == 1
    assert text.endswith((".\n", "?\n"))
    assert expected in text


def test_settings_in_python():
    for options, expected in (
        ({"rank": 0}, "CPSettings: rank: a rank of 0 was asked for; expected exact, paper or 1 or"),
        ({"rnk": 4}, "CPSettings: there is no option rnk; the options are name, rank, paths, "),
        ({"paths": "odd"}, "CPSettings: paths=odd: input should be 'even' or 'all'."),
    ):
        with pytest.raises(MlipError) as error:
            OPERATORS["cp"].settings(**options)
        assert str(error.value).startswith(expected)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("build", [build_product, build_convolution])
@pytest.mark.parametrize(
    "wrong",
    ["matrix", "mtarix", OPERATORS["matrix"], None],
    ids=["name", "misspelt", "operator", "none"],
)
def test_what_is_built_without_settings(build, wrong):
    with pytest.raises(MlipError, match="is built from its settings, as OPERATORS") as error:
        build(wrong, 1, 1, 1)
    assert ", matrix, " in str(error.value)


def test_a_degree_that_cannot_be():
    with pytest.raises(MlipError) as error:
        build_product(OPERATORS["gaunt_grid"].settings(), 1, 1, 3)
    assert str(error.value) == (
        "GauntGrid: a result of degree 3 was asked for, but factors of degrees up to 1 and 1 "
        "couple to degree 2 at most."
    )


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (((5, 4, 1), (6, 4, 1)), r"a batch of shape \(5,\), the second one of shape \(6,\)"),
        (((4,), (4,)), r"first factor is an array of shape \(4,\); expected \(\.\.\., 4, chan"),
    ],
    ids=["batches", "axes"],
)
def test_arrays_that_do_not_fit(shapes, expected):
    product = build_product(OPERATORS["matrix"].settings(), 1, 1, 1)
    with pytest.raises(MlipError, match=expected):
        product(*map(np.ones, shapes))
