"""`mlip benchmark tensor-products` from end to end, on two operators and tiny sizes."""

import csv

import pytest

from mlip.benchmark.records import Row
from mlip.cli.arguments import parse
from mlip.cli.main import main

WORDS = [
    "benchmark",
    "tensor-products",
    "--quick",
    "preset.operators=[channelwise]",
    "preset.tasks=[all_to_lmax,one_to_one]",
    "preset.batches=[8]",
    "preset.runs=6",
    "preset.seconds=0.01",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensor-products")
    assert main([*WORDS, "preset.degrees=[1]", f"run.dir={folder}"]) == 0
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
    assert [(row["task"], row["mode"]) for row in rows] == [
        ("all_to_lmax", "forward"),
        ("all_to_lmax", "gradient"),
        ("one_to_one", "forward"),
        ("one_to_one", "gradient"),
    ]
    for row in rows:
        assert row["operator"] == "clebsch_gordan_dense"
        assert float(row["ratio"]) == 1.0
        assert int(row["runs"]) == 6
        for key in ("median_ms", "compile_s", "flops", "traffic_bytes", "memory_bytes"):
            assert float(row[key]) > 0
        assert float(row["q1_ms"]) <= float(row["median_ms"]) <= float(row["q3_ms"])
    assert [row["expressivity"] for row in rows] == ["4", "4", "1", "1"]


def test_figures_and_summary_are_there(folder):
    assert "even couplings: value, 8 atoms" in (folder / "summary.md").read_text()
    for name in ("time_1_channel.png", "time_per_dof_1_channel.png", "front_1_channel.png"):
        assert (folder / "figures" / name).stat().st_size > 10_000


def test_a_second_start_does_what_is_missing(folder, capsys):
    before = read(folder)
    words = [*WORDS[:-4], "preset.tasks=[all_to_lmax]", *WORDS[-3:], "preset.modes=[forward]"]
    assert main([*words, "preset.degrees=[1,2]", f"run.dir={folder}"]) == 0
    assert "1 programs to time, 4 there already" in capsys.readouterr().out
    rows = read(folder)
    assert rows[:4] == before
    assert [row["degree"] for row in rows] == ["1", "1", "1", "1", "2"]


def test_what_is_too_large_is_recorded_with_the_reason(tmp_path, capsys):
    words = [*WORDS, "preset.degrees=[1]", "preset.tasks=[all_to_lmax]", f"run.dir={tmp_path}"]
    assert main([*words, "preset.max_multiplies=10"]) == 0
    assert {row["skipped"] for row in read(tmp_path)} == {
        "4.5e+02 multiplications, more than 1.0e+01"
    }
    assert (
        main([*words, "preset.modes=[forward]", "preset.batches=[9]", "preset.memory_gb=1e-9"]) == 0
    )
    assert read(tmp_path)[-1]["skipped"].endswith("GB, more than 1e-09 GB")


def test_it_stops_in_time_and_says_so(tmp_path, capsys):
    words = [*WORDS, "preset.degrees=[1]", "preset.max_minutes=1e-9", f"run.dir={tmp_path}"]
    assert main(words) == 0
    assert "with 4 of 4 comparisons left; the same command goes on" in capsys.readouterr().out


def test_unknown_operator_is_named(tmp_path, capsys):
    words = ["benchmark", "tensor-products", "preset.operators=[gaunnt]", f"run.dir={tmp_path}"]
    assert main(words) == 2
    assert "there is no operator gaunnt; expected some of" in capsys.readouterr().err
