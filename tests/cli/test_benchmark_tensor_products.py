"""`mlip benchmark tensor-products` from end to end, on two operators and tiny sizes."""

import csv
from itertools import product

import pytest

from mlip.benchmark.records import Row
from mlip.cli.arguments import parse
from mlip.cli.main import main

WORDS = [
    "benchmark",
    "tensor-products",
    "--quick",
    "preset.operators=[matrix]",
    "preset.sizes=[[8,1]]",
    "preset.runs=6",
    "preset.seconds=0.01",
]
BOTH = ["preset.tasks=[all_to_lmax,one_to_one]", "preset.degrees=[1]"]
ONE = ["preset.tasks=[all_to_lmax]", "preset.degrees=[1]", "preset.modes=[forward]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensor-products")
    assert main([*WORDS, *BOTH, f"run.dir={folder}"]) == 0
    return folder


def read(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_flag_stands_for_the_preset():
    arguments = parse(["benchmark", "tensor-products", "--quick", "n_threads=1"])
    assert arguments.verb.name == "benchmark tensor-products"
    assert arguments.overrides == ("preset=quick", "n_threads=1")


def test_table_has_a_row_for_each_operator_and_comparison(folder):
    rows = read(folder)
    assert list(rows[0]) == list(Row._fields)
    comparisons = list(product(["all_to_lmax", "one_to_one"], ["forward", "gradient"]))
    for index, name in enumerate(["clebsch_gordan_dense", "matrix"]):
        own = rows[index::2]
        assert {row["operator"] for row in own} == {name}
        assert [(row["task"], row["mode"]) for row in own] == comparisons
        assert [row["expressivity"] for row in own] == ["4", "4", "1", "1"]
    for row in rows:
        assert int(row["runs"]) == 6
        for key in ("median_ms", "ratio", "compile_s", "flops", "traffic_bytes", "memory_bytes"):
            assert float(row[key]) > 0
        assert float(row["q1_ms"]) <= float(row["median_ms"]) <= float(row["q3_ms"])
    assert {float(row["ratio"]) for row in rows[::2]} == {1.0}


def test_figures_and_summary_are_there(folder):
    assert "even couplings: value, 8 atoms" in (folder / "summary.md").read_text()
    for name in ("time", "time_per_expressivity", "front"):
        assert (folder / "figures" / f"{name}_1_channel.png").stat().st_size > 10_000


def test_a_second_start_does_what_is_missing(folder, capsys):
    before = read(folder)
    further = ["preset.couplings=[even,all]", "preset.others_at=[1]"]
    assert main([*WORDS, *ONE, *further, f"run.dir={folder}"]) == 0
    assert "2 programs to time, 8 there already" in capsys.readouterr().out
    rows = read(folder)
    assert rows[:8] == before
    assert [row["couplings"] for row in rows[8:]] == ["all", "all"]


def test_what_is_too_large_is_recorded_with_the_reason(tmp_path):
    words = [*WORDS, *ONE, f"run.dir={tmp_path}"]
    assert main([*words, "preset.max_multiplies=10"]) == 0
    assert main([*words, "preset.sizes=[[9,1]]", "preset.memory_gb=1e-9"]) == 0
    reasons = [row["skipped"] for row in read(tmp_path)]
    assert all("multiplications, more than 1.0e+01" in reason for reason in reasons[:2])
    assert all("GB, more than 1e-09 GB" in reason for reason in reasons[2:])


def test_it_stops_in_time_and_says_so(tmp_path, capsys):
    words = [*WORDS, *BOTH, "preset.max_minutes=1e-9", f"run.dir={tmp_path}"]
    assert main(words) == 0
    assert "with 4 of 4 comparisons left; the same command goes on" in capsys.readouterr().out


def test_unknown_operator_is_named(tmp_path, capsys):
    words = ["benchmark", "tensor-products", "preset.operators=[gaunnt]", f"run.dir={tmp_path}"]
    assert main(words) == 2
    assert "there is no operator gaunnt; expected some of" in capsys.readouterr().err
