"""The recipes for large data learn on the samples, cut short."""

import json

import numpy as np
import pytest

from mlip.cli.compose import compose
from mlip.cli.main import main
from mlip.training.schedule import ScheduleSettings, relative_rate

STEPS = 30
SHORT = [
    "model.channels=4",
    "model.num_layers=1",
    "model.cutoff=3.0",
    "optimizer.lr=0.01",
    "dataset.tests={}",
    "trainer.batch_size=4",
    "trainer.max_epochs=null",
    "trainer.max_minutes=null",
    f"trainer.max_steps={STEPS}",
    f"trainer.validate_steps={STEPS}",
]
TDN = ["model.num_gaussians=4", "model.radial_mlp=[4]"]
ESCN = [
    "model.message_channels=4", "model.hidden_channels=4", "model.lmax=1", "model.mmax=1",
    "model.radial_mlp=[4]", "model.readout_mlp=4", "schedule.warmup_steps=0",
]  # fmt: skip
MACE = [
    "model.lmax=1", "model.hidden_lmax=0", "model.correlation=1", "model.radial_mlp=[4]",
    "schedule.warmup_steps=0",
]  # fmt: skip
RUNS = {
    "oc20_s2ef": ["dataset=oc20_mini", *ESCN],
    "pubchemqcr": ["dataset=pubchemqcr_mini", *TDN],
    "tdn_pubchemqcr": ["dataset=pubchemqcr_mini", *TDN],
    "tdn_oc20": ["dataset=oc20_mini", *TDN],
    "tdn_oc20_is2re": ["dataset=oc20_mini_is2re", *TDN],
}


def losses(name, words, folder):
    """The training losses of a recipe, of every step."""
    assert main(["train", f"experiment={name}", *SHORT, *words, f"run.dir={folder}"]) == 0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    errors = json.loads((folder / "evaluation.json").read_text())["valid"]
    assert np.isfinite(errors["energy_rmse_mev_per_atom"])
    return [one["loss"] for one in records if one["kind"] == "train"]


def require_learning(found):
    print(found)
    assert len(found) == STEPS
    assert np.mean(found[-10:]) < 0.9 * np.mean(found[:5])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), RUNS.items(), ids=RUNS)
def test_recipe_learns_from_a_sample(name, words, tmp_path):
    require_learning(losses(name, words, tmp_path))


@pytest.mark.slow
def test_3bpa_learns_from_its_files(shared, tmp_path):
    folder = shared / "data" / "3bpa"
    if not folder.is_dir():
        pytest.skip(f"no files of 3BPA in {folder}")
    few = ["dataset.train=train_300K.xyz@:60", "dataset.valid_count=8"]
    words = [f"dataset.root={folder}", *few, *MACE]
    require_learning(losses("3bpa", words, tmp_path))


@pytest.mark.parametrize("name", ["tdn_pubchemqcr", "tdn_oc20", "tdn_oc20_is2re"])
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
