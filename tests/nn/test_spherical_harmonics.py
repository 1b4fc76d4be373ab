"""Harmonics agree with e3nn, in value and derivative, and are smooth everywhere."""

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.irreps import degree_slice, dim
from mlip.nn.spherical_harmonics import spherical_harmonics
from tests.tolerances import FLOAT64

LMAX = 6
POLES = np.concatenate([np.eye(3), -np.eye(3)])


def ours(vectors):
    length = jnp.sqrt(jnp.sum(vectors**2, axis=1, keepdims=True))
    return jnp.stack(spherical_harmonics(vectors / length, LMAX), axis=1)


def e3nns(vectors):
    irreps = e3nn_jax.Irreps([(1, (l, (-1) ** l)) for l in range(LMAX + 1)])
    algorithm = ("recursive", "dense")  # the one that compiles fastest
    harmonics = e3nn_jax.spherical_harmonics(
        irreps, vectors, True, "component", algorithm=algorithm
    )
    return harmonics.array


def values_and_derivatives(function, vectors):
    """Harmonics, and their derivatives along one random direction at each point."""
    directions = np.random.default_rng(1).normal(size=vectors.shape)
    return jax.jit(lambda *args: jax.jvp(function, args[:1], args[1:]))(vectors, directions)


@pytest.fixture(scope="module")
def points():
    random = np.random.default_rng(0).normal(size=(8, 3))
    return np.concatenate([random / np.linalg.norm(random, axis=1)[:, None], POLES])


@pytest.fixture(scope="module")
def computed(points):
    return values_and_derivatives(ours, points)


def test_agrees_with_e3nn(points, computed):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = values_and_derivatives(e3nns, points)
    for actual, theirs in zip(computed, expected, strict=True):
        np.testing.assert_allclose(actual, theirs, rtol=0, atol=1e3 * FLOAT64.relative)


def test_finite_at_the_poles(computed):
    assert all(np.all(np.isfinite(array)) for array in computed)


def test_component_normalisation(computed):
    values = computed[0]
    assert values.shape[1] == dim(LMAX)
    for l in range(LMAX + 1):
        squares = np.sum(values[:, degree_slice(l)] ** 2, axis=1)
        np.testing.assert_allclose(squares, 2 * l + 1, rtol=FLOAT64.relative)


def test_degree_one_is_the_vector(points, computed):
    np.testing.assert_allclose(
        computed[0][:, 1:4], np.sqrt(3.0) * points, rtol=0, atol=FLOAT64.relative
    )
