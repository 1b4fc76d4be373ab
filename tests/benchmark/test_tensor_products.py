"""One comparison of operators."""

from types import SimpleNamespace

from mlip.benchmark import tensor_products
from mlip.benchmark.grid import BenchmarkGrid

GRID = BenchmarkGrid(
    name="test",
    tasks=["all_to_lmax"],
    degrees=[1],
    sizes=[[4, 1]],
    operators=["matrix", "path_shared"],
    modes=["forward"],
    runs=6,
    seconds=0.01,
)


def test_operators_compiled_in_time_are_timed_and_the_others_left(monkeypatch):
    clock = iter(range(10))
    fake = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(tensor_products, "time", fake)
    (cell,) = GRID.cells(edges=1)
    operators = GRID.candidates(cell)
    said = []
    rows = tensor_products.compare(cell, operators, GRID, said.append, end=1)
    assert [row.operator for row in rows] == ["clebsch_gordan_dense", "matrix"]
    assert all(row.median_ms > 0 for row in rows)
    assert [sentence.rsplit(": ", 1)[1] for sentence in said] == [
        "clebsch_gordan_dense",
        "matrix",
        "timing",
    ]


def test_an_option_without_effect_is_not_timed_again():
    """The published rank is the exact one for even couplings of degree 1."""
    change = {"operators": ["cp"], "variants": [{"name": "cp", "rank": "paper"}]}
    grid = BenchmarkGrid(**{**GRID.model_dump(), **change})
    (cell,) = grid.cells(edges=1)
    baseline, plain, other = tensor_products.compare(
        cell, grid.candidates(cell), grid, lambda text: None
    )
    assert plain.median_ms > 0
    assert plain.skipped == baseline.skipped == ""
    assert other.skipped == "the same program as cp"
    assert other.median_ms is None
