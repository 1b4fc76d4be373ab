"""The table on disk: read again as it was written, cut lines, other machines."""

import json

import pytest

from mlip.benchmark.grid import Cell
from mlip.benchmark.records import MACHINE, TABLE, Records, Row
from mlip.errors import MlipError

CELL = Cell("all_to_all", "even", 2, 100, 1, "float32", "forward")
HERE = {
    "device": "cpu",
    "processor": "fast",
    "cores": 2,
    "threads": 2,
    "caches": {"L1 data": "48K"},
    "versions": {"jax": "0.12.0", "numpy": "2.5"},
}
MEASURED = Row("one", *CELL, median_ms=1.5, runs=30, expressivity=9, exact=1)
SKIPPED = Row("two", *CELL, skipped="4.1 GB, more than 4 GB")


@pytest.fixture
def table(tmp_path):
    Records(tmp_path, HERE).add([MEASURED, SKIPPED])
    return tmp_path


def test_rows_are_read_as_they_were_written(table):
    records = Records(table, HERE)
    assert records.rows == [MEASURED, SKIPPED]
    assert records.has("one", CELL)
    assert not records.has("one", CELL._replace(degree=3))
    assert not records.has("three", CELL)


def test_a_line_cut_short_is_measured_again(table):
    path = table / TABLE
    path.write_text(path.read_text()[:-5])
    records = Records(table, HERE)
    assert records.rows == [MEASURED]
    records.add([SKIPPED])
    assert Records(table, HERE).rows == [MEASURED, SKIPPED]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 1}, "measured with threads 2, here it is 1"),
        ({"versions": {"jax": "0.10.1", "numpy": "2.5"}}, "versions jax 0.12.0, here it is jax 0"),
    ],
)
def test_another_machine_or_version_is_refused(table, change, message):
    with pytest.raises(MlipError, match=message):
        Records(table, {**HERE, **change})


def test_a_table_of_an_unknown_machine_is_refused(table):
    (table / MACHINE).unlink()
    with pytest.raises(MlipError, match=r"lacks its machine\.json"):
        Records(table, HERE)


def test_another_table_is_refused(table):
    (table / TABLE).write_text("a,b\n1,2\n")
    with pytest.raises(MlipError, match="not a table of this version"):
        Records(table, HERE)


def test_the_machine_is_kept(table):
    assert json.loads((table / MACHINE).read_text()) == HERE
