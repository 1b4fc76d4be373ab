"""Which comparisons a grid spans, and which operators take part in them."""

import pytest

from mlip.benchmark.grid import BASELINE, BenchmarkGrid, label
from mlip.errors import MlipError
from mlip.tensor_products.registry import OPERATORS

SMALL = {
    "name": "test",
    "tasks": ["all_to_all", "mace_convolution"],
    "couplings": ["even", "all"],
    "degrees": [1, 2],
    "sizes": [[10, 1], [10, 3]],
    "others_at": [2],
}


def test_other_sizes_and_couplings_come_one_at_a_time_at_some_degrees():
    grid = BenchmarkGrid(**SMALL)
    cells = list(grid.cells(edges=77))
    assert len(cells) == len(set(cells))
    assert [cell[1:5] for cell in cells[::2]] == [
        ("even", 1, 10, 1),
        ("even", 2, 10, 1),
        ("all", 2, 10, 1),
        ("even", 2, 10, 3),
        ("own", 3, 77, 64),
    ]
    assert [cell.mode for cell in cells[:2]] == ["forward", "gradient"]
    assert {cell.precision for cell in cells} == {"float32"}


def test_every_operator_takes_part_in_the_roles_that_it_can_play():
    grid = BenchmarkGrid(**SMALL)
    product, *_, convolution = list(grid.cells(1))
    for cell, role in ((product, "product"), (convolution, "convolution")):
        names = list(grid.candidates(cell))
        assert names[0] == BASELINE
        able = {n for n, o in OPERATORS.items() if getattr(o, role) is not None}
        if role == "product":
            able.remove("channelwise")  # its product is that of clebsch_gordan_sparse
        assert set(names) == able


def test_a_shared_product_is_there_when_asked_for_by_the_other_name():
    grid = BenchmarkGrid(**SMALL, operators=["channelwise"])
    product, *_ = list(grid.cells(1))
    assert list(grid.candidates(product)) == [BASELINE, "channelwise"]


def test_a_shared_product_has_one_name_whatever_the_order():
    both = ["channelwise", "clebsch_gordan_sparse"]
    for operators in (both, both[::-1]):
        product, *_ = list(BenchmarkGrid(**SMALL, operators=operators).cells(1))
        assert list(BenchmarkGrid(**SMALL, operators=operators).candidates(product)) == [
            BASELINE,
            "clebsch_gordan_sparse",
        ]


def test_the_baseline_is_always_there():
    grid = BenchmarkGrid(**SMALL, operators=["so2"])
    product, *_, convolution = list(grid.cells(1))
    assert list(grid.candidates(product)) == [BASELINE]
    assert list(grid.candidates(convolution)) == [BASELINE, "so2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": ["gaunnt"]}, "there is no operator gaunnt; expected some of channelwise"),
        ({"degrees": [0]}, "greater than 0"),
        ({"tasks": []}, "at least 1 item"),
        ({"runs": 1}, "greater than or equal to 6"),
        ({"others_at": []}, r"none of \[1, 2\] is in others_at, \[\]: name one there"),
        ({"variants": [{"name": "auto"}]}, "variants has auto, which is no operator of its own"),
        (
            {"operators": ["so2"], "variants": [{"name": "cp", "rank": "paper"}]},
            r"variants has cp, which is not among operators, \['so2'\]: add it there, or set",
        ),
        (
            {"operators": ["so2"], "tasks": ["all_to_all"]},
            r"so2 has no product for the tasks \['all_to_all'\]: leave it out, or add a task",
        ),
        (
            {"operators": ["gaunt_poisson"], "tasks": ["convolution"]},
            "gaunt_poisson has no convolution for the tasks",
        ),
        ({"operators": ["symmetric_contraction"]}, "has no convolution and no product for the"),
        ({"degrees": [1, 3]}, r"couplings has further values, .* none of \[1, 3\] is in .*\[2\]"),
    ],
)
def test_bad_options_are_named(change, message):
    with pytest.raises(MlipError, match=message):
        BenchmarkGrid(**{**SMALL, **change})


def test_labels_name_the_options_that_are_not_the_default():
    operator = OPERATORS[BASELINE]
    assert label(operator.settings()) == BASELINE
