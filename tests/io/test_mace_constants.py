"""Constants stored with torch weights are those computed with, or are refused."""

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.io.mace_constants import is_constant
from mlip.nn.generalized_cg import coupling_tensor
from mlip.nn.irreps import clebsch_gordan
from tests.support.potentials import E0, mace_config

CONFIG = mace_config(zbl=True, distance_transform="agnesi", lmax=2, hidden_lmax=1)
CONTRACTION = "products.0.symmetric_contractions.contractions"
RADII = np.zeros(119)
RADII[[1, 6, 8]] = 0.31, 0.76, 0.66  # Cordero et al., Dalton Trans. 2008

STORED = {
    "r_max": np.array(3.0),
    "atomic_numbers": np.array([1, 6, 8]),
    "atomic_energies_fn.atomic_energies": np.array([[-13.5, -1030.0, -2041.0]], np.float32),
    "radial_embedding.bessel_fn.bessel_weights": np.pi / 3.0 * np.arange(1, 5, dtype=np.float32),
    "radial_embedding.cutoff_fn.p": np.array(5.0),
    "radial_embedding.distance_transform.q": np.array(0.9183),
    "radial_embedding.distance_transform.covalent_radii": RADII,
    "pair_repulsion_fn.a_exp": np.array(0.3),
    "pair_repulsion_fn.c": np.array([0.1818, 0.5099, 0.2802, 0.02817]),
    "scale_shift.scale": np.array([1.3], np.float32),
    "scale_shift.shift": np.array([-0.2]),
    f"{CONTRACTION}.0.U_matrix_2": np.moveaxis(coupling_tensor(2, 0, 2)[:, 0], 0, -1),
    f"{CONTRACTION}.1.U_matrix_2": np.moveaxis(coupling_tensor(2, 1, 2), 0, -1),
    "interactions.1.conv_tp._compiled_main_left_right._w3j_1_2_1": clebsch_gordan(1, 2, 1),
}


@pytest.mark.parametrize("name", STORED)
def test_a_constant_must_have_the_value_computed_with(name):
    value = STORED[name]
    assert is_constant(name, value, CONFIG, E0)
    changed = np.array(value, order="C")
    changed.reshape(-1)[np.flatnonzero(changed)[0]] += 1
    with pytest.raises(MlipError, match=f"{name.split('.')[-1]} with .* computes with"):
        is_constant(name, changed, CONFIG, E0)


@pytest.mark.parametrize("name", ["r_max", f"{CONTRACTION}.0.U_matrix_2"])
def test_a_constant_of_another_size(name):
    with pytest.raises(MlipError, match=f"{name} with 3 numbers, where .* computes with"):
        is_constant(name, np.ones(3), CONFIG, E0)


def test_couplings_of_another_order_of_the_same_factors_are_the_same():
    name = f"{CONTRACTION}.1.U_matrix_2"
    assert is_constant(name, np.swapaxes(STORED[name], 1, 2), CONFIG, E0)


@pytest.mark.parametrize(
    "name", ["readouts.0.linear.weight", "pair_repulsion_fn.a_exp", f"{CONTRACTION}.0.U_matrix_3"]
)
def test_what_such_a_model_does_not_have_is_no_constant(name):
    assert not is_constant(name, np.ones(3), mace_config(), E0)
