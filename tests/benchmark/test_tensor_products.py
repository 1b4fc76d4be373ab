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
