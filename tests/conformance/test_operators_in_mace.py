"""Every tensor product in MACE, by config alone: it trains, also beside every other."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.cli.build import complete
from mlip.cli.compose import compose
from mlip.cli.schema import SCHEMAS
from mlip.cli.validate import validate
from mlip.models import build_model
from mlip.nn.geometry import edge_vectors
from mlip.tensor_products.registry import OPERATORS
from tests.support.potentials import potential_of
from tests.support.quickstart import CUTOFF, molecules, train
from tests.support.tensor_products import choices

STEPS = 30
SMALL = (
    "dataset=quickstart",
    f"model.cutoff={CUTOFF}",
    "model.channels=4",
    "model.hidden_lmax=1",
    "model.lmax=2",
    "model.correlation=3",
    "model.num_bessel=4",
    "model.radial_mlp=[8]",
    "model.readout_mlp=4",
)


def words(role):
    """What a user can type for a role."""
    return [word for word, chosen in choices().items() if role in OPERATORS[chosen["name"]].roles]


def config_with(*overrides, **chosen):
    """The model of a command with words for some roles, completed from the data."""
    words = [f"tensor_product@model.{role}={word}" for role, word in chosen.items()]
    template = validate(SCHEMAS["train"], compose("train", [*SMALL, *overrides, *words])).model
    return complete(template, molecules().elements, molecules().statistics)


@pytest.mark.parametrize("name", OPERATORS)
def test_trains_on_real_molecules(name):
    """In both places if it can take both, else beside the default."""
    potential = potential_of(config_with(**dict.fromkeys(OPERATORS[name].roles, name)), seed=1)
    _, losses = train(potential.model, STEPS)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]


@cache
def operator_of(role, word):
    return getattr(config_with(**{role: word}), role)


@pytest.mark.parametrize("word", words("convolution"))
def test_takes_every_product(word):
    """Each pair gives an energy for each atom: built and called, but not computed."""
    (batch,) = molecules().batches.epoch(0)
    graph = batch.graph
    smaller = config_with("model.num_layers=1", "model.correlation=2", convolution=word)
    for product in words("product"):
        config = smaller.model_copy(update={"product": operator_of("product", product)})

        def energy(graph, config=config):
            model = build_model(config, rngs=nnx.Rngs(0), dtype=jnp.float64)
            return model(graph, edge_vectors(graph, graph.positions))

        found = jax.eval_shape(energy, graph)
        assert (found.shape, found.dtype) == ((graph.num_nodes,), np.float64), product
