"""Softmax over neighbours: its formula, and what could divide by zero or overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.graph import bare_graph
from mlip.nn.attention import neighbor_softmax, smooth_leaky_relu
from tests.tolerances import FLOAT64, tolerance

# Atom 0 has five neighbours in two rows, atom 1 none, atom 2 one; the last row is padding.
RECEIVERS = np.array([0, 0, 2, 3])
MASK = np.array([[True, True, True], [True, True, False], [True, False, False], [False] * 3])
HEADS = 2


def graph():
    return bare_graph(RECEIVERS, np.zeros(MASK.shape, int), 4).replace(edge_mask=jnp.asarray(MASK))


def softmax(scores, envelope, empty_weight):
    return neighbor_softmax(scores, envelope, graph(), empty_weight=empty_weight)


def inputs(dtype="float64", size=1.0):
    rng = np.random.default_rng(0)
    scores = size * rng.normal(size=(*MASK.shape, HEADS))
    envelope = rng.uniform(size=MASK.shape) * MASK
    return jnp.asarray(scores, dtype), jnp.asarray(envelope, dtype)


@pytest.mark.parametrize("empty_weight", [0.0, 1.0])
def test_values(empty_weight):
    scores, envelope = inputs()
    parts = np.asarray(envelope)[..., None] * np.exp(np.asarray(scores))
    expected = np.zeros_like(parts)
    for atom in range(4):
        rows = atom == RECEIVERS
        total = parts[rows].sum(axis=(0, 1)) + empty_weight
        expected[rows] = parts[rows] / np.where(total > 0, total, 1.0)
    found = softmax(scores, envelope, empty_weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT64.relative)
    assert not np.any(found[~MASK])


def test_weights_of_an_atom_add_up_to_one():
    scores, _ = inputs()
    found = np.asarray(softmax(scores, jnp.asarray(MASK, "float64"), 0.0))
    sums = [found[atom == RECEIVERS].sum(axis=(0, 1)) for atom in (0, 2)]
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=FLOAT64.relative)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("empty_weight", [0.0, 1.0])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_derivatives_are_finite(dtype, empty_weight, size):
    """Also where scores are huge, padding outweighs all, and all neighbours are at the cutoff."""
    scores, envelope = inputs(dtype, size)
    scores = scores.at[~MASK].set(1e5)
    envelope = envelope.at[2].set(0.0)

    def value(arguments):
        return jnp.sum(softmax(*arguments, empty_weight) ** 2)

    def squared_gradient(arguments):
        return sum(jnp.sum(part**2) for part in jax.grad(value)(arguments))

    program = jax.jit(lambda a: (softmax(*a, empty_weight), jax.grad(squared_gradient)(a)))
    weights, second = program((scores, envelope))
    assert weights.dtype == np.dtype(dtype)
    assert np.all((weights >= 0) & (weights <= 1 + tolerance(dtype).relative))
    assert np.any(weights > 0)
    assert all(np.all(np.isfinite(part)) for part in second)


def test_only_the_empty_place_lets_a_lone_neighbour_fade():
    scores, envelope = inputs()
    fading = envelope.at[2, 0].set(1e-6)
    assert np.all(softmax(scores, fading, 0.0)[2, 0] == 1.0)
    assert np.all(softmax(scores, fading, 1.0)[2, 0] < 1e-5)


@pytest.mark.parametrize("empty_weight", [0.0, 1.0])
def test_edges_beyond_the_cutoff_change_nothing(empty_weight):
    """A kept neighbour list has some; their scores may be above all others by far."""
    scores, envelope = (np.asarray(part, "float32") for part in inputs("float32"))
    envelope = np.where(np.arange(3) == 1, 0.0, envelope).astype("float32")
    without = softmax(jnp.asarray(scores), jnp.asarray(envelope), empty_weight)
    scores = np.where(envelope[..., None] > 0, scores, 500.0).astype("float32")
    found = softmax(jnp.asarray(scores), jnp.asarray(envelope), empty_weight)
    np.testing.assert_array_equal(found, without)
    assert np.any(found > 0)


def test_smooth_leaky_relu():
    x = jnp.asarray([-30.0, 0.0, 30.0])
    np.testing.assert_allclose(smooth_leaky_relu(x), [-6.0, 0.0, 30.0], rtol=1e-10)
    slope = jax.vmap(jax.grad(smooth_leaky_relu))(x)
    np.testing.assert_allclose(slope, [0.2, 0.6, 1.0], rtol=1e-9)
