"""Weights of torch models that do not fit are refused; the precision is the one asked for."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from mlip.errors import MlipError
from mlip.io.mace_torch import from_torch_weights


@pytest.fixture(scope="module")
def load(root):
    """Hyperparameters and weights of a golden model."""

    def read(name):
        arrays = load_file(root / f"tests/golden/{name}.safetensors")
        weights = {key[8:]: value for key, value in arrays.items() if key.startswith("weights/")}
        return json.loads((root / f"tests/golden/{name}.json").read_text()), weights

    return read


@pytest.fixture(scope="module")
def saved(load):
    return load("one_layer")


@pytest.mark.parametrize(
    "name", ["interactions.7.linear.weight", "pair_repulsion_fn.a_exp", "joint_embedding.weight"]
)
def test_a_weight_too_many(saved, name):
    hyperparameters, weights = saved
    with pytest.raises(MlipError, match=rf"the weights hold {name}, which a model of these"):
        from_torch_weights(hyperparameters, {**weights, name: np.ones(3)})


def test_buffers_are_no_surplus(saved):
    hyperparameters, weights = saved
    buffers = {
        "r_max": np.array(4.5),
        "interactions.0.linear.output_mask": np.ones(3),
        "interactions.0.conv_tp.weight": np.ones(0),
        "products.0.symmetric_contractions.contractions.0.U_matrix_1": np.eye(9)[:, :1],
    }
    from_torch_weights(hyperparameters, {**weights, **buffers})


def test_a_trained_radial_basis_is_refused(saved):
    hyperparameters, weights = saved
    name = "radial_embedding.bessel_fn.bessel_weights"
    trained = {**weights, name: weights[name] * np.array([1, 1, 1.01, 1, 1, 1])}
    message = rf"{name} with 2\.115\d*, where a model of these .* with 2\.094\d*; correct"
    with pytest.raises(MlipError, match=message):
        from_torch_weights(hyperparameters, trained)


def test_scale_and_shift_may_stand_in_the_weights_alone(load):
    hyperparameters, weights = load("density_residual_one_layer")
    h = {k: v for k, v in hyperparameters.items() if not k.startswith("atomic_inter")}
    config = from_torch_weights(h, weights).config
    assert (config.scale, config.shift) == (6.0, 0.3)
    without = {k: v for k, v in weights.items() if not k.startswith("scale_shift")}
    with pytest.raises(MlipError, match="lack atomic_inter_scale, atomic_inter_shift"):
        from_torch_weights(h, without)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("gate", "tanh", "gate=tanh is not supported; expected silu"),
        ("gate", None, "gate=None is not supported"),
        ("radial_type", "gaussian", "radial_type=gaussian is not supported; expected bessel"),
        ("distance_transform", "Soft", "distance_transform=Soft .* expected None or Agnesi"),
        ("use_so3", True, "use_so3=True is not supported; expected False"),
        ("embedding_specs", {"charge": 1}, "embedding_specs=.* is not supported; expected None"),
        ("model_class", "AtomicDipolesMACE", "model=AtomicDipolesMACE is not supported"),
        ("atomic_inter_scale", 2.0, "atomic_inter_scale is given for model=MACE"),
        ("heads", ["a", "b"], "several heads is not supported"),
        ("atomic_energies", [[0.0] * 4] * 2, "has 8 numbers, expected one for each of the 4"),
        ("lr_scheduler", "exotic", "hyperparameter lr_scheduler=exotic is not known"),
        ("MLP_irreps", "16x0e+16x1o", r"MLP_irreps=16x0e\+16x1o is not supported"),
        ("hidden_irreps", "16x0e+8x1o", r"hidden_irreps=16x0e\+8x1o is not supported"),
        ("hidden_irreps", "sixteen", "hidden_irreps=sixteen is not supported"),
        ("num_polynomial_cutoff", 5.5, r"as envelope_power, 5\.5 was found"),
        ("use_reduced_cg", True, "do not hold the couplings they belong to"),
    ],
)
def test_an_option_without_counterpart(saved, option, value, message):
    hyperparameters, weights = saved
    given = {k: v for k, v in hyperparameters.items() if (k, option) != ("model", "model_class")}
    with pytest.raises(MlipError, match=message):
        from_torch_weights({**given, option: value}, weights)


@pytest.mark.parametrize(
    "name",
    ["interactions.0.linear_up.weight", "node_embedding.linear.weight", "readouts.0.linear.weight"],
)
def test_a_weight_too_few(saved, name):
    hyperparameters, weights = saved
    with pytest.raises(MlipError, match=f"the weights have no {name}"):
        from_torch_weights(hyperparameters, {k: v for k, v in weights.items() if k != name})


def test_missing_hyperparameters(saved):
    hyperparameters, weights = saved
    few = {k: v for k, v in hyperparameters.items() if k not in ("r_max", "atomic_energies")}
    with pytest.raises(MlipError, match="the hyperparameters lack atomic_energies, r_max"):
        from_torch_weights(few, weights)


def test_double_precision_outside_of_the_64_bit_mode(saved):
    with jax.enable_x64(False):
        assert not jax.config.jax_enable_x64
        potential = from_torch_weights(*saved)
        weights = jax.tree.leaves(nnx.state(potential.model, nnx.Param))
    assert {str(weight.dtype) for weight in weights} == {"float64"}
