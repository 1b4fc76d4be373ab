"""The error table on the terminal."""

import io

import pytest
from rich.console import Console

from mlip.reporting.tables import format_number, print_error_table
from tests.reporting.synthetic import write_run_folder


def printed(evaluation, width=80):
    stream = io.StringIO()
    print_error_table(evaluation, Console(file=stream, width=width))
    return stream.getvalue()


def test_table_names_subsets_units_and_errors():
    text = printed(
        {
            "300K": {
                "num_structures": 100,
                "num_atoms": 2700,
                "energy_rmse_mev_per_atom": 0.7312,
                "forces_rmse_mev_per_a": 25.07,
            },
            "1200K": {"num_structures": 5, "num_atoms": 135, "forces_rmse_mev_per_a": 218.4},
        }
    )
    assert "meV/atom" in text
    assert "meV/Å" in text
    assert [line.split()[0] for line in text.splitlines() if "K" in line] == ["300K", "1200K"]
    assert text.splitlines()[-2].split()[-2:] == ["0.731", "25.1"]
    assert text.splitlines()[-1].split()[-2:] == ["–", "218"]
    assert "stress" not in text


def test_full_table_fits_eighty_characters(tmp_path):
    import json

    folder = write_run_folder(tmp_path / "run", frames=2, epochs=1, stress=True)
    text = printed(json.loads((folder / "evaluation.json").read_text()))
    assert "…" not in text
    assert "stress" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (12, "12"),
        (123456, "123\u202f456"),
        (0.01234, "0.012"),
        (1.2345, "1.23"),
        (51.04, "51.0"),
        (217.6, "218"),
        (-3.0, "-3.00"),
        (2e-5, "2.00e-05"),
    ],
)
def test_numbers_keep_three_figures(value, text):
    assert format_number(value) == text
