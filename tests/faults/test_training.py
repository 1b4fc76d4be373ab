"""What goes wrong in training stops it with one clear sentence, and nothing is lost."""

import dataclasses
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.errors import MlipError
from mlip.training.labels import require_labels
from mlip.training.loop import fit
from mlip.training.loss import LossSettings
from mlip.training.settings import SecondStageSettings, TrainerSettings
from tests.support.disk import file_size_limit
from tests.support.potentials import potential_of, tdn_config
from tests.support.training import PairModel, batches, clusters, fit_arguments


class Witness:
    """A silent reporter that remembers what it is told, and acts at a given step."""

    def __init__(self, at=None, action=lambda: None):
        self.notices = []
        self._at, self._action = at, action

    def notice(self, text):
        self.notices.append(text)

    def training(self, status, errors):
        if status.step == self._at:
            self._action()

    def validation(self, status, row, best):
        pass

    def close(self):
        pass


def train(run_dir, structures=None, model=None, reporter=None, loss=None, **trainer):
    source = batches(structures or clusters(8), shuffle=True)
    arguments = fit_arguments(run_dir, **{"max_epochs": 3, "keep": "last", **trainer})
    if loss is not None:
        arguments["loss"] = loss
    return fit(model or PairModel(), source, None, reporter=reporter or Witness(), **arguments)


def poisoned(**labels):
    structures = clusters(8)
    structures[5] = dataclasses.replace(structures[5], **labels)
    return structures


@pytest.mark.parametrize(
    "labels",
    [{"energy": float("nan")}, {"forces": np.full((6, 3), np.inf)}, {"energy": 1e30}],
    ids=["nan energy", "infinite forces", "overflow"],
)
def test_a_loss_that_is_not_finite_names_the_frame_and_keeps_the_last_good_state(tmp_path, labels):
    with pytest.raises(MlipError, match=r"loss of training step \d+ is not finite") as stop:
        train(tmp_path, poisoned(**labels))
    assert "toy.xyz#5." in str(stop.value)
    assert "toy.xyz#4" not in str(stop.value)
    assert "optimizer.lr" in str(stop.value)
    # The saved weights are those of the steps before, and can be trained on with sound data.
    reporter = Witness()
    result = train(tmp_path, reporter=reporter)
    assert "Resuming from the checkpoint of step" in reporter.notices[0]
    leaves = jax.tree.leaves(nnx.state(result.model, nnx.Param))
    assert result.step == 6
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


class KinkedModel(PairModel):
    """Has a finite energy and force, but a gradient by a weight that is not: √w at w = 0."""

    def __init__(self):
        super().__init__()
        self.kink = nnx.Param(jnp.zeros((), jnp.float32))

    def __call__(self, graph, vectors):
        energy = super().__call__(graph, vectors)
        return energy + jnp.sqrt(self.kink[...]) * graph.node_mask.astype(energy.dtype)


def test_a_gradient_that_is_not_finite_names_the_batch(tmp_path):
    with pytest.raises(MlipError, match="gradient of training step 1 is not finite for a batch of"):
        train(tmp_path, model=KinkedModel(), loss=LossSettings(energy_weight=1.0))
    assert (tmp_path / "checkpoints" / "0").is_dir()


def test_a_validation_frame_that_is_not_finite_is_named(tmp_path):
    train_batches = batches(clusters(4), shuffle=True)
    valid = batches(poisoned(energy=float("nan")), shuffle=False)
    with pytest.raises(MlipError, match=r"validation loss at step 0 .* toy.xyz#5;"):
        fit(PairModel(), train_batches, valid, reporter=Witness(), **fit_arguments(tmp_path))


def test_a_checkpoint_of_another_configuration_says_what_differs(tmp_path):
    train(tmp_path, max_epochs=1)
    with pytest.raises(MlipError, match=r"loss.kind was 'mse', now 'l1'.* choose another run name"):
        train(tmp_path, max_epochs=1, loss=LossSettings(kind="l1"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path, max_epochs=1)
    with pytest.raises(MlipError, match=r"holds float32\[2, 8\].*this run needs float32\[2, 4\]"):
        train(tmp_path, max_epochs=1, model=PairModel(width=4))


def test_a_damaged_checkpoint_is_skipped_with_a_notice(tmp_path):
    whole = train(tmp_path, checkpoint_minutes=0.0)
    shutil.rmtree(tmp_path / "checkpoints" / "6" / "state")
    reporter = Witness()
    again = train(tmp_path, checkpoint_minutes=0.0, reporter=reporter)
    assert "Checkpoint 6 is damaged and skipped" in reporter.notices[0]
    assert "Resuming from the checkpoint of step 5" in reporter.notices[1]
    pairs = zip(
        jax.tree.leaves(nnx.state(whole.model)),
        jax.tree.leaves(nnx.state(again.model)),
        strict=True,
    )
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_run_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("something else")
    with pytest.raises(MlipError, match="make the folder writable or choose another run folder"):
        train(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_run_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MlipError, match="make the folder writable"):
        train(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    with (
        file_size_limit(1000) as limit,
        pytest.raises(MlipError, match=r"File too large; the last good one is of step \d") as stop,
    ):
        train(tmp_path, reporter=Witness(3, limit), checkpoint_minutes=0.0, log_steps=100)
    assert "start the same command again: it resumes" in str(stop.value)
    reporter = Witness()
    assert train(tmp_path, checkpoint_minutes=0.0, log_steps=100, reporter=reporter).step == 6
    assert "Resuming from the checkpoint of step" in reporter.notices[0]


def test_metrics_that_cannot_be_written_stop_the_run(tmp_path):
    with (
        file_size_limit(1000) as limit,
        pytest.raises(
            MlipError, match=r"cannot write .*metrics.jsonl: File too large.*last checkpoint"
        ),
    ):
        train(tmp_path, reporter=Witness(3, limit), log_steps=1)


def test_direct_forces_that_nothing_trains(tmp_path):
    model = potential_of(tdn_config(num_layers=1, forces="direct"), "float32").model
    with pytest.raises(MlipError, match=r"stay as they were drawn; set model.forces=gradient, or"):
        train(tmp_path, model=model, loss=LossSettings(forces_weight=0.0))


def test_weights_of_another_precision(tmp_path):
    with pytest.raises(MlipError, match=r"trainer.precision=float64 but the weights .* float32"):
        train(tmp_path, precision="float64")


def test_tensorboard_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MlipError, match="pip install tensorboardX"):
        train(tmp_path, tensorboard=True)


def labels(loss=None, valid=None, second_stage=None, **without):
    structures = [dataclasses.replace(s, **without) for s in clusters(4)]
    trainer = TrainerSettings(max_epochs=1, second_stage=second_stage)
    given = structures if valid is None else valid
    require_labels(structures, given, trainer, loss or LossSettings())


def test_a_weight_without_a_label_in_the_training_data():
    labels()
    with pytest.raises(
        MlipError,
        match=r"loss.stress_weight=10 but none of the 4 training frames has a stress; "
        r"name their label with dataset.keys.stress, or set loss.stress_weight=0",
    ):
        labels(LossSettings(stress_weight=10.0))
    with pytest.raises(MlipError, match=r"loss.energy_weight=1 but none .* has an energy"):
        labels(energy=None)
    labels(LossSettings(energy_weight=0.0), energy=None)


def test_a_weight_without_a_label_in_the_second_stage():
    second = SecondStageSettings(stress_weight=5.0)
    with pytest.raises(MlipError, match=r"trainer.second_stage.stress_weight=5 but none of the 4"):
        labels(second_stage=second)
    second = SecondStageSettings(energy_weight=0.0, forces_weight=0.0)
    with pytest.raises(MlipError, match=r"trainer.second_stage sets every loss weight to zero"):
        labels(second_stage=second)


def test_validation_data_without_any_weighted_label():
    bare = [dataclasses.replace(s, energy=None) for s in clusters(2)]
    labels(valid=bare)
    with pytest.raises(MlipError, match=r"none of the 2 validation frames .*\(energy\)"):
        labels(LossSettings(forces_weight=0.0), valid=bare)
