"""Readouts against numpy, and energies of atoms and of padding."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.graph import bare_graph
from mlip.nn.readout import BiasedMLPReadout, atomic_energy
from tests.tolerances import FLOAT64


def test_a_hidden_layer_with_biases():
    readout = BiasedMLPReadout(3, rngs=nnx.Rngs(0), dtype=jnp.float64)
    readout.hidden.bias[...] = jnp.asarray([0.5, -1.0, 2.0])
    readout.out.bias[...] = jnp.asarray([0.25])
    scalars = np.random.default_rng(1).normal(size=(4, 3))
    hidden, out = (np.asarray(x.weight[...]) / np.sqrt(3.0) for x in (readout.hidden, readout.out))
    u = scalars @ hidden + np.array([0.5, -1.0, 2.0])
    expected = (u / (1.0 + np.exp(-u)) @ out)[:, 0] + 0.25
    found = readout(jnp.asarray(scalars))
    np.testing.assert_allclose(found, expected, rtol=10 * FLOAT64.relative)


@pytest.mark.parametrize("scale", [2.0, np.array([2.0, 4.0, 6.0])])
def test_scale_and_shift_of_atoms_alone(scale):
    graph = bare_graph(np.zeros(1, int), np.zeros((1, 1), int), 3)
    graph = graph.replace(node_mask=jnp.asarray([True, True, False]))
    energy = atomic_energy(jnp.asarray([1.0, -1.0, np.inf]), scale, 0.5, graph)
    expected = np.broadcast_to(scale, 3)[:2] * [1.0, -1.0] + 0.5
    assert np.asarray(energy).tolist() == [*expected, 0.0]
