"""What training needs of every model, on a batch with padding and an atom without neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.data.collate import collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.models import MODEL_CONFIGS
from mlip.potential import evaluate
from mlip.training.optimizer import OptimizerSettings, build_optimizer
from mlip.training.state import SplitModel
from tests.conformance.configs import TINY
from tests.support.potentials import SHAPE, molecule, potential_of


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_a_step_moves_every_weight(name):
    """By finite amounts, in float32, with weight decay; a weight that stays put is of no use."""
    potential = potential_of(TINY[name], "float32")
    split = SplitModel(potential.model)
    graph = batch(potential)

    @jax.jit
    def gradient(params):
        def loss(params):
            output = evaluate(split.merge(params, split.constants), graph)
            return jnp.sum(output.energy**2) + jnp.sum(output.forces**2)

        return jax.grad(loss)(params)

    found = gradient(split.params)
    assert all(np.all(np.isfinite(value)) for value in found.values())
    assert [key for key, value in found.items() if not np.any(value)] == []
    mask = split.decay_mask(potential.model)
    assert set(mask) == set(split.params)
    assert any(mask.values())
    transform = build_optimizer(OptimizerSettings(weight_decay=0.1), mask)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = transform.update(found, transform.init(split.params), split.params)
    assert all(np.any(update) for update in updates.values())


def batch(potential):
    elements = potential.elements
    one = molecule(3, 8, elements)
    lonely = Structure(
        np.resize(elements, 4).astype(np.int32),
        np.array([[0.0, 0.0, 0.0], [1.1, 0.1, 0.0], [0.2, 1.0, 0.3], [30.0, 0.0, 0.0]]),
    )
    structures = [one, lonely]
    pairs = [neighbor_list(structure, potential.cutoff) for structure in structures]
    shape = SHAPE._replace(graphs=3, nodes=16, blocks=24, width=4)
    return collate(structures, pairs, elements, shape, potential.dtype)
