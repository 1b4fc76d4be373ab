"""One comparison of operators."""

from mlip.benchmark import tensor_products
from mlip.benchmark.grid import BenchmarkGrid
from mlip.benchmark.records import IDENTITY, Records
from mlip.benchmark.tensor_products import missing_rows, run_benchmark

MACHINE = dict.fromkeys(IDENTITY, "this one")

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


class Told:
    """What the benchmark says of its progress."""

    def update(self, step, text):
        """Nothing is kept."""


def test_an_incomplete_comparison_is_made_anew_as_a_whole(tmp_path):
    """Times of two sessions in one comparison would be of two states of the machine."""
    records = Records(tmp_path, MACHINE)
    few = GRID.model_copy(update={"operators": ("matrix",)})
    assert run_benchmark(few, records, missing_rows(few, records), Told()) == 0
    before = {row.operator: row.median_ms for row in records.rows}
    assert set(before) == {"clebsch_gordan_dense", "matrix"}
    assert run_benchmark(GRID, records, missing_rows(GRID, records), Told()) == 0
    after = {row.operator: row.median_ms for row in records.rows}
    assert set(after) == {*before, "path_shared"}
    assert all(after[name] != before[name] for name in before)
    assert not missing_rows(GRID, records)
    assert Records(tmp_path, MACHINE).rows[0].operator == "clebsch_gordan_dense"
    assert len(Records(tmp_path, MACHINE).rows) == 3


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
