"""Which comparisons a grid spans, and which operators take part in them."""

import pytest
from pydantic import ValidationError

from mlip.benchmark.grid import BASELINE, BenchmarkGrid, Cell, label
from mlip.tensor_products.registry import OPERATORS

SMALL = {
    "name": "test",
    "tasks": ["all_to_all", "mace_convolution"],
    "couplings": ["even", "all"],
    "degrees": [1, 2],
    "batches": [10],
    "channels": [1, 3],
}


def test_cells_are_every_combination_and_mace_is_one():
    grid = BenchmarkGrid(**SMALL)
    cells = list(grid.cells(edges=77))
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2 + 2
    assert cells[0] == Cell("all_to_all", "even", 1, 10, 1, "float32", "forward")
    assert cells[-1] == Cell("mace_convolution", "own", 3, 77, 64, "float32", "gradient")


def test_every_operator_takes_part_in_the_roles_that_it_can_play():
    grid = BenchmarkGrid(**SMALL)
    product, *_, convolution = list(grid.cells(1))
    for cell, role in ((product, "product"), (convolution, "convolution")):
        names = list(grid.candidates(cell))
        assert names[0] == BASELINE
        assert set(names) == {n for n, o in OPERATORS.items() if getattr(o, role) is not None}


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
    ],
)
def test_bad_options_are_named(change, message):
    with pytest.raises(ValidationError, match=message):
        BenchmarkGrid(**{**SMALL, **change})


def test_labels_name_the_options_that_are_not_the_default():
    operator = OPERATORS[BASELINE]
    assert label(operator.settings()) == BASELINE
