"""Labels of other units or another level of theory are pointed out; a poor potential is not."""

import numpy as np
import pytest

from mlip.training.doubts import doubts
from mlip.training.evaluate import Evaluation


def evaluation(*, energy_error=0.02, predicted=1.0, noise=0.1):
    """Errors of energies (eV/atom), and forces that are a multiple of the labels with noise."""
    generator = np.random.default_rng(0)
    labels = generator.normal(size=(200, 3))
    labels[::7] = np.nan
    forces = predicted * (labels + noise * generator.normal(size=labels.shape))
    arrays = {"hot/forces": np.nan_to_num(forces), "hot/forces_reference": labels}
    return Evaluation({"hot": {"energy_mae_mev_per_atom": 1000 * energy_error}}, arrays)


def test_usual_and_poor_potentials_are_not_doubted():
    assert doubts(evaluation()) == []
    assert doubts(evaluation(energy_error=0.5, predicted=0.4, noise=0.5)) == []
    assert doubts(evaluation(predicted=0.01, noise=5.0)) == []  # hardly related


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy_error": 105.0}, "hot: energies are wrong by 105 eV/atom"),
        ({"predicted": 0.0434}, "forces are predicted as 0.04"),
        ({"predicted": -1.0}, "forces are predicted as -1 times the labelled ones"),
    ],
)
def test_labels_that_do_not_fit(options, message):
    (sentence,) = doubts(evaluation(**options))
    assert message in sentence
    assert "units or the level of theory of these labels probably do not fit" in sentence
