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
from mlip.potential import Potential
from mlip.tensor_products.registry import OPERATORS
from tests.support.potentials import SHAPE, moved, outputs, potential_of
from tests.support.quickstart import CUTOFF, molecules, train
from tests.support.tensor_products import choices
from tests.tolerances import FLOAT64

STEPS = 30
PAIRS = [
    ("cp_paper", "gaunt_quadrature"),
    ("so2", "gaunt_quadrature"),
    ("channelwise", "gaunt_poisson"),
    ("channelwise", "vector_signal"),
    ("channelwise", "matrix"),
]
DISTANCE = 3e-5  # of central differences, Å
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


def of_each_kind():
    """All operators; slow are those that compute the same as another one."""
    twins = ("clebsch_gordan_dense", "clebsch_gordan_sparse", "gaunt_fourier", "gaunt_quadrature")
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in twins else []) for name in OPERATORS
    ]


def config_with(*overrides, **chosen):
    """The model of a command with words for some roles, completed from the data."""
    words = [f"tensor_product@model.{role}={word}" for role, word in chosen.items()]
    template = validate(SCHEMAS["train"], compose("train", [*SMALL, *overrides, *words])).model
    return complete(template, molecules().elements, molecules().statistics)


@pytest.mark.parametrize("name", of_each_kind())
def test_trains_on_real_molecules(name):
    """In both places if it can take both, else beside the default."""
    potential = potential_of(config_with(**dict.fromkeys(OPERATORS[name].roles, name)), seed=1)
    _, losses = train(potential.model, STEPS)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(("convolution", "product"), PAIRS)
def test_pairs_train_and_keep_forces_that_are_the_gradient(convolution, product):
    """Small, one program for the training and one for energies and forces after it."""
    correlation = 3 if product == "gaunt_poisson" else 2  # where odd couplings take part
    tiny = ("model.lmax=1", f"model.correlation={correlation}")
    config = config_with(*tiny, convolution=convolution, product=product)
    model, losses = train(potential_of(config, seed=1).model, 2 * STEPS)
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0], losses

    e0 = dict.fromkeys(config.elements, 0.0)
    trained = Potential(model, elements=config.elements, e0=e0, precision="float64")
    one = molecules().structures[0]
    direction = np.random.default_rng(0).normal(size=one.positions.shape) / np.sqrt(3 * len(one))
    around = [moved(one, one.positions + sign * DISTANCE * direction) for sign in (0, 1, -1)]
    plain, ahead, behind = outputs(trained, around, SHAPE)
    expected = float(behind.energy - ahead.energy) / (2 * DISTANCE)
    atol = FLOAT64.finite_difference * np.abs(plain.forces).max()
    np.testing.assert_allclose(np.sum(direction * plain.forces), expected, rtol=0, atol=atol)


@cache
def operator_of(role, word):
    return getattr(config_with(**{role: word}), role)


@pytest.mark.slow
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
