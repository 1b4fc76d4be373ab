"""TDN and eSCN from end to end, as a user would run them: train, evaluate, dynamics."""

import json

import numpy as np
import pytest
from ase.io import read

from mlip.cli.main import main

pytest_plugins = ("tests.support.cli",)

SMALL = {
    "tdn": ["model.channels=4", "model.num_layers=1", "model.num_heads=2", "model.num_gaussians=4"],
    "escn": [
        "model.channels=4",
        "model.message_channels=2",
        "model.hidden_channels=2",
        "model.lmax=1",
        "model.mmax=null",
        "model.num_layers=1",
        "model.num_bessel=4",
        "model.element_channels=2",
        "model.readout_mlp=4",
    ],
}


@pytest.mark.parametrize("name", SMALL)
def test_train_evaluate_and_run_dynamics(name, train_words, data_folder, tmp_path):
    words = [word for word in train_words if not word.startswith("model=")]
    words += [f"model={name}", *SMALL[name], "model.radial_mlp=[4]", "model.cutoff=4.0"]
    assert main([*words, "trainer.max_epochs=1", f"run.dir={tmp_path / 'run'}"]) == 0
    path = tmp_path / "run" / "model.mlip"
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())["hot"]

    # From the saved file alone.
    words = ["evaluate", f"model={path}", f"data={data_folder}/test.xyz"]
    assert main([*words, f"run.dir={tmp_path / 'evaluation'}"]) == 0
    again = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["test"]
    assert again["forces_rmse_mev_per_a"] == pytest.approx(found["forces_rmse_mev_per_a"], rel=1e-4)

    words = ["md", f"model={path}", f"structure={data_folder}/start.xyz", "md.steps=3"]
    assert main([*words, "md.temperature=10", f"run.dir={tmp_path / 'md'}"]) == 0
    assert np.all(np.isfinite(read(tmp_path / "md" / "trajectory.xyz").positions))
