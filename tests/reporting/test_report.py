"""The page a run folder is turned into."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.reporting.report import write_report
from tests.reporting.synthetic import SUBSETS, write_run_folder

FIGURES = {
    "learning_epochs.png",
    "learning_time.png",
    "parity_energy.png",
    "parity_forces.png",
    "error_histograms.png",
    "errors_by_force.png",
    "errors_by_element.png",
    "timing.png",
}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = write_run_folder(tmp_path_factory.mktemp("runs") / "demo", stress=True)
    return write_report(folder)


def test_page_is_one_file(complete):
    page = complete.read_text()
    assert complete.name == "report.html"
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)


def test_figures_are_also_files(complete):
    figures = {path.name: path for path in (complete.parent / "figures").iterdir()}
    assert set(figures) == FIGURES | {"parity_stress.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in figures.values())
    assert complete.read_text().count("data:image/png;base64,") == len(figures)


def test_every_section_is_filled(complete):
    page = complete.read_text()
    assert 'class="missing"' not in page
    for word in (
        *SUBSETS,
        "meV/atom",
        "meV/Å",
        "8.3 %",
        "11.2 s in all",
        "2 frames are duplicates",
    ):
        assert word in page
    assert "isolated atoms of iso_atoms.xyz" in page
    assert "A sample was looked at: 300 structures of train" in page
    (row,) = re.findall(r'<tr><th scope="row">train</th>.*?</tr>', page)
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells == ["450", "9–27", "H C N O", "-5.43", "0.012", "1.23", "–"]
    assert "version of jax" in page
    assert "0.12.0" in page
    assert "a1b2c3d4" in page


def test_errors_on_the_page_are_those_of_the_evaluation(complete):
    evaluation = json.loads((complete.parent / "evaluation.json").read_text())
    page = complete.read_text()
    for errors in evaluation.values():
        assert f"<td>{errors['forces_rmse_mev_per_a']:.3g}" in page


def test_text_is_escaped(complete):
    assert "&lt;b&gt;raw&lt;/b&gt;" in complete.read_text()


def test_training_alone_gives_curves_and_says_what_is_absent(tmp_path):
    folder = write_run_folder(tmp_path / "run", frames=1, epochs=1)
    for name in ("evaluation.json", "predictions.npz", "model.mlip"):
        (folder / name).unlink()
    page = write_report(folder).read_text()
    assert figures_of(folder) == {f for f in FIGURES if f.startswith(("learning", "timing"))}
    for name in ("evaluation.json", "predictions.npz", "model.mlip"):
        assert f"{name} is not in the run folder" in page


def test_evaluation_alone_gives_errors_and_says_what_is_absent(tmp_path):
    folder = write_run_folder(tmp_path / "run", frames=1, epochs=1)
    for name in ("metrics.jsonl", "config.yaml", "model.mlip"):
        (folder / name).unlink()
    page = write_report(folder).read_text()
    assert figures_of(folder) == {f for f in FIGURES if not f.startswith(("learning", "timing"))}
    for name in ("metrics.jsonl", "config.yaml", "model.mlip"):
        assert f"{name} is not in the run folder" in page


def test_missing_labels_are_left_out(tmp_path):
    """Forces alone, then nothing at all."""
    folder = write_run_folder(tmp_path / "run", frames=2, epochs=1)
    (folder / "metrics.jsonl").unlink()
    change_arrays(folder, "energy_reference")
    page = write_report(folder).read_text()
    assert "parity_energy.png" not in figures_of(folder)
    assert "parity_forces.png" in figures_of(folder)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()
    change_arrays(folder, "forces_reference")
    assert "holds no labelled value" in write_report(folder).read_text()


def test_plotting_leaves_no_global_state(tmp_path):
    """matplotlib is loaded late, and its stateful interface not at all."""
    folder = write_run_folder(tmp_path / "run", frames=2, epochs=2)
    for name in ("metrics.jsonl", "predictions.npz"):
        (folder / name).unlink()
    script = (
        "import sys, pathlib\n"
        "from mlip.reporting.report import write_report\n"
        "assert 'matplotlib' not in sys.modules, 'loaded too early'\n"
        "write_report(pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'\n"
        "assert 'jax' not in sys.modules, 'a report needs no jax'\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(MlipError, match="nowhere is not a folder"):
        write_report(tmp_path / "nowhere")


def figures_of(folder):
    return {path.name for path in (folder / "figures").iterdir()}


def change_arrays(folder, *names):
    with np.load(folder / "predictions.npz") as stored:
        arrays = dict(stored)
    for key in arrays:
        if key.endswith(tuple(f"/{name}" for name in names)):
            arrays[key] = np.full_like(arrays[key], np.nan)
    np.savez(folder / "predictions.npz", **arrays)
