"""A step takes the derivatives that its loss needs, and no others."""

import jax
import numpy as np
import pytest

from mlip.training.loop import fit
from mlip.training.loss import LossSettings, LossWeights
from mlip.training.state import SplitModel
from mlip.training.step import loss_and_gradient
from tests.support.training import Undifferentiable, fit_arguments, toy_run
from tests.tolerances import FLOAT32


def test_a_loss_of_energies_alone_takes_no_derivative_by_the_positions(tmp_path):
    _, train, valid = toy_run()  # with labelled forces
    arguments = {**fit_arguments(tmp_path / "a", max_steps=3), "loss": LossSettings()}
    with pytest.raises(AssertionError, match="no derivative"):
        fit(Undifferentiable(), train, valid, **arguments)

    settings = LossSettings(forces_weight=0.0)
    arguments |= {"run_dir": tmp_path / "b", "loss": settings}
    result = fit(Undifferentiable(), train, valid, **arguments)
    rows = [row for row in result.history if row["kind"] != "event"]
    assert {row["kind"] for row in rows} == {"train", "valid"}
    assert all("energy_rmse_mev_per_atom" in row for row in rows)
    assert not any("forces_rmse_mev_per_a" in row for row in rows)


def test_it_trains_as_with_forces_that_weigh_nothing():
    model, train, _ = toy_run()
    split, batch = SplitModel(model), next(train.epoch(0))

    def gradient(weights):
        return jax.jit(
            lambda params: loss_and_gradient(
                split, params, split.constants, batch.graph, batch.labels, LossSettings(), weights
            )
        )(split.params)

    alone, metrics, by_energy = gradient(LossWeights(np.float32(1.0), None, None))
    weightless, full, expected = gradient(
        LossWeights(np.float32(1.0), np.float32(0.0), np.float32(0.0))
    )
    assert float(alone) == pytest.approx(float(weightless), rel=FLOAT32.relative)
    for name, value in expected.items():
        largest = float(np.abs(value).max())
        assert largest > 0
        np.testing.assert_allclose(by_energy[name], value, atol=FLOAT32.relative * largest)
    assert float(full.forces_count) > 0
    assert float(metrics.forces_count) == float(metrics.stress_count) == 0
