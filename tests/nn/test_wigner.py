"""Edge frames: rotations, smooth as far as a frame can be, and right in every derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.irreps import degree_slice
from mlip.nn.wigner import edge_frame, row_orders
from tests.support.rotations import harmonics, representation
from tests.tolerances import FLOAT32, FLOAT64

LMAX = 6
TIGHT = 1e3 * FLOAT64.relative
AXES = np.concatenate([np.eye(3), -np.eye(3)])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


RANDOM = unit(np.random.default_rng(0).normal(size=(10, 3)))
NEAR_POLES = unit(np.array([[1e-9, 1.0, 0.0], [1e-9, -1.0, 1e-9], [0.5, 1e-12, 1.0]]))
POINTS = np.concatenate([AXES, RANDOM, NEAR_POLES])

jitted_frame = jax.jit(edge_frame, static_argnums=(1, 2))


def sorted_rows(frame):
    """Rows m = −l..l, as the columns."""
    return [np.asarray(matrix)[..., np.argsort(row_orders(l)), :] for l, matrix in enumerate(frame)]


@pytest.fixture(scope="module")
def frame():
    return jitted_frame(POINTS, LMAX, LMAX)


def test_takes_harmonics_of_the_direction_to_those_of_the_pole(frame):
    of_direction, of_pole = harmonics(POINTS, LMAX), harmonics(AXES[1:2], LMAX)[0]
    for l, matrix in enumerate(sorted_rows(frame)):
        rotated = np.einsum("pij,pj->pi", matrix, of_direction[:, degree_slice(l)])
        np.testing.assert_allclose(
            rotated, np.tile(of_pole[degree_slice(l)], (len(POINTS), 1)), rtol=0, atol=TIGHT
        )


def test_all_degrees_are_the_same_proper_rotation(frame):
    """Degree 1 is the rotation matrix; the others are fitted to harmonics for it."""
    matrices = sorted_rows(frame)
    np.testing.assert_allclose(np.linalg.det(matrices[1]), 1.0, rtol=TIGHT)
    for point in range(0, len(POINTS), 3):
        expected = representation(matrices[1][point], LMAX)
        for l, matrix in enumerate(matrices):
            block = expected[degree_slice(l), degree_slice(l)]
            np.testing.assert_allclose(matrix[point], block, rtol=0, atol=TIGHT)


def test_truncation_keeps_the_first_rows(frame):
    for mmax in (1, 2):
        kept = jitted_frame(POINTS, 3, mmax)
        for full, part in zip(frame, kept, strict=False):
            rows = part.shape[1]
            assert rows == min(full.shape[1], 2 * mmax + 1)
            np.testing.assert_allclose(part, full[:, :rows], rtol=0, atol=TIGHT)
    polar = jitted_frame(POINTS, 3, 0)
    for full, part in zip(frame, polar, strict=False):
        np.testing.assert_allclose(part, full[:, :1], rtol=0, atol=TIGHT)


def invariant(vector, middle):
    """What a layer between rotation and rotation back sees: Σ_m w_m Dᵀ_m D_m of any vector."""
    direction = vector / jnp.sqrt(jnp.sum(vector * vector))
    total = jnp.zeros((), vector.dtype)
    for l, matrix in enumerate(edge_frame(direction, 3, 3)):
        weight = jnp.cos(1.0 + jnp.abs(jnp.asarray(row_orders(l), vector.dtype)))
        left, right = (matrix @ v[l * l : (l + 1) ** 2] for v in middle)
        total = total + jnp.sum(weight * left * right)
    return total


def test_derivatives_between_the_charts_and_at_the_poles():
    """First and second derivatives at the axes, two of them poles and four between the charts."""
    middle = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16)))
    gradient = jax.grad(invariant)

    @jax.jit
    @jax.vmap
    def evaluate(vector):
        hessian = jax.jacrev(gradient)(vector, middle)
        return invariant(vector, middle), gradient(vector, middle), hessian

    step = 1e-4
    stencil = step * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    results = evaluate((1.3 * AXES[:, None] + stencil).reshape(-1, 3))
    values, *derivatives = (np.asarray(a).reshape(6, 7, *a.shape[1:]) for a in results)
    for lower, exact in zip((values, derivatives[0]), derivatives, strict=True):
        assert np.all(np.isfinite(exact))
        differences = (lower[:, 1:4] - lower[:, 4:7]) / (2 * step)
        np.testing.assert_allclose(exact[:, 0], differences, rtol=0, atol=1e-6)


def test_single_precision(frame):
    single = jitted_frame(np.float32(POINTS), 3, 3)
    for exact, matrix in zip(frame, single, strict=False):
        assert matrix.dtype == jnp.float32
        np.testing.assert_allclose(matrix, exact, rtol=0, atol=FLOAT32.relative)
