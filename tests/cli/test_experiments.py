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
    "model.radial_mlp=[4]",
    "optimizer.lr=0.02",
    "dataset.tests={}",
    "trainer.max_epochs=null",
    "trainer.max_minutes=null",
    f"trainer.max_steps={STEPS}",
    f"trainer.validate_steps={STEPS}",
]
TDN = ["model.num_gaussians=4"]
ESCN = [
    "model.message_channels=4", "model.hidden_channels=4", "model.lmax=1", "model.mmax=1",
    "model.readout_mlp=4",
]  # fmt: skip
MACE = ["model.lmax=1", "model.hidden_lmax=0", "model.correlation=1"]
# All training frames are in each batch, so that the losses of all steps compare.
OC20 = [
    "dataset=oc20_mini", "dataset.train=lmdb/train@:8", "dataset.valid=lmdb/train@8:10",
    "trainer.batch_size=8",
]  # fmt: skip
RUNS = {
    "oc20_s2ef": [*OC20, *ESCN, "schedule.warmup_steps=0"],
    "pubchemqcr": [
        "dataset=pubchemqcr_mini", "dataset.train=Data02.lmdb@:8", "dataset.valid_fraction=null",
        "dataset.valid=Data02.lmdb@8:10", "trainer.batch_size=8", *TDN,
    ],
    "tdn_oc20": [*OC20, *TDN],
    "tdn_oc20_is2re": ["dataset=oc20_mini_is2re", "trainer.batch_size=24", *TDN],
}  # fmt: skip


def require_learning(name, words, folder):
    """The last losses of a recipe, cut short, are below the first ones."""
    assert main(["train", f"experiment={name}", *SHORT, *words, f"run.dir={folder}"]) == 0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [one["loss"] for one in records if one["kind"] == "train"]
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3])
    errors = json.loads((folder / "evaluation.json").read_text())["valid"]
    assert np.isfinite(errors["energy_rmse_mev_per_atom"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), RUNS.items(), ids=RUNS)
def test_recipe_learns_from_a_sample(name, words, tmp_path):
    require_learning(name, words, tmp_path)


@pytest.mark.slow
def test_3bpa_learns_from_its_files(shared, tmp_path):
    folder = shared / "data" / "3bpa"
    if not folder.is_dir():
        pytest.skip(f"no files of 3BPA in {folder}")
    words = [
        f"dataset.root={folder}", "dataset.train=train_300K.xyz@:10", "dataset.valid_count=2",
        "trainer.batch_size=8", "schedule.warmup_steps=0",
    ]  # fmt: skip
    require_learning("3bpa", [*words, *MACE], tmp_path)


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
