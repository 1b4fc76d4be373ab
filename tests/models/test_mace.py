"""Size, weight-decay mask and configuration of MACE."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mlip.errors import MlipError
from mlip.models.mace import MACE, MACEConfig


def abstract(**options):
    """The model's shapes, without computing a weight."""
    config = MACEConfig(elements=(1, 6, 7, 8), **options)
    return nnx.eval_shape(lambda: MACE(config, rngs=nnx.Rngs(0), dtype=jnp.float32))


def names(tree):
    return {
        ".".join(str(key) for key in path): value.get_value()
        for path, value in nnx.to_flat_state(tree)
    }


def test_number_of_parameters_of_the_published_architecture():
    model = abstract(channels=64, hidden_lmax=1, lmax=3, correlation=3, num_layers=2)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 269_136


def test_decayed_weights():
    """Message linears and everything of the products; no readout, embedding, skip or network."""
    mask = names(abstract(channels=2, interaction="density_residual").decay_mask())
    decayed = {name for name, value in mask.items() if value}
    parts = {".".join(name.split(".")[2:3]) for name in decayed}
    assert parts == {"linear", "product", "product_linear"}
    kept = {name.split(".")[2] for name in mask if name.startswith("layers.")} - parts
    assert kept == {"linear_up", "radial_mlp", "density", "skip"}
    assert all(name.startswith("layers.") for name in decayed)
    assert any(name.startswith("readouts.") for name in mask)


@pytest.mark.parametrize("option", [{"chanels": 8}, {"correlation": 5}, {"cutoff": 0.0}])
def test_unknown_or_impossible_options_are_refused(option):
    with pytest.raises(MlipError, match=next(iter(option))):
        MACEConfig(elements=(1,), **option)
