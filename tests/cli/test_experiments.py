"""The recipes of tensor decomposition networks run on the samples, cut short."""

import json

import numpy as np
import pytest

from mlip.cli.compose import compose
from mlip.cli.main import main
from mlip.training.schedule import ScheduleSettings, relative_rate

STEPS = 4
SHORT = [
    "model.channels=4",
    "model.num_layers=1",
    "model.num_gaussians=4",
    "model.radial_mlp=[4]",
    "model.cutoff=3.0",
    "dataset.tests={}",
    "trainer.batch_size=4",
    "trainer.max_epochs=null",
    f"trainer.max_steps={STEPS}",
]
SAMPLES = {
    "tdn_pubchemqcr": "pubchemqcr_mini",
    "tdn_oc20": "oc20_mini",
    "tdn_oc20_is2re": "oc20_mini_is2re",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sample"), SAMPLES.items())
def test_recipe_on_a_sample(name, sample, tmp_path):
    words = [f"experiment={name}", f"dataset={sample}", *SHORT]
    assert main(["train", *words, f"run.dir={tmp_path}"]) == 0
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [one for one in records if one["kind"] == "train"]
    assert steps[-1]["step"] == STEPS
    assert all(np.isfinite(one["loss"]) for one in steps)
    errors = json.loads((tmp_path / "evaluation.json").read_text())["valid"]
    assert np.isfinite(errors["energy_rmse_mev_per_atom"])


@pytest.mark.parametrize("name", SAMPLES)
def test_published_schedule(name):
    """Two of thirty epochs of warm-up, from a fifth of the rate; or a plateau of patience two."""
    given = compose("train", [f"experiment={name}", "dataset.root=somewhere"])
    schedule = ScheduleSettings(**given["schedule"])
    if name == "tdn_pubchemqcr":
        assert (schedule.name, schedule.patience, schedule.warmup_share) == ("plateau", 2, 0.0)
        return
    assert schedule.name == "cosine"
    # As on a sample, with few steps in an epoch.
    epochs, steps = given["trainer"]["max_epochs"], 8
    shares = np.arange(epochs * steps) / (epochs * steps)
    rates = [relative_rate(schedule, step=n, share=share) for n, share in enumerate(shares)]
    assert rates[0] == pytest.approx(0.2)
    assert np.argmax(rates) == pytest.approx(2 * steps, abs=1)
    assert max(rates) > 0.98
