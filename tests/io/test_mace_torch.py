"""Weights of torch models that do not fit are refused; the precision is the one asked for."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from mlip.errors import MlipError
from mlip.io.mace_torch import from_torch_weights

NAME = "tests/golden/one_layer"


@pytest.fixture(scope="module")
def saved(root):
    arrays = load_file(root / f"{NAME}.safetensors")
    weights = {key[8:]: value for key, value in arrays.items() if key.startswith("weights/")}
    return json.loads((root / f"{NAME}.json").read_text()), weights


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
        "r_max": np.ones(()),
        "interactions.0.linear.output_mask": np.ones(3),
        "interactions.0.conv_tp.weight": np.ones(0),
        "products.0.symmetric_contractions.contractions.0.U_matrix_1": np.ones((1, 1)),
    }
    from_torch_weights(hyperparameters, {**weights, **buffers})


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


IN_SINGLE_PRECISION_MODE = f"""
import json
from pathlib import Path
import jax
from flax import nnx
from safetensors.numpy import load_file
from mlip.io.mace_torch import from_torch_weights
arrays = load_file("{NAME}.safetensors")
weights = {{k[8:]: v for k, v in arrays.items() if k.startswith("weights/")}}
potential = from_torch_weights(json.loads(Path("{NAME}.json").read_text()), weights)
assert not jax.config.jax_enable_x64
print({{str(x.dtype) for x in jax.tree.leaves(nnx.state(potential.model, nnx.Param))}})
"""


def test_double_precision_outside_of_the_64_bit_mode(root):
    done = subprocess.run(
        [sys.executable, "-c", IN_SINGLE_PRECISION_MODE],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.stdout.strip() == "{'float64'}", done.stderr
