"""Coupling coefficients and the conventions of the layout."""

import itertools

import e3nn_jax
import numpy as np
import pytest

from mlip.nn.irreps import clebsch_gordan, coupling_paths, degree_slice, dim, reflection_class
from tests.support.rotations import harmonics, random_rotation, representation
from tests.tolerances import FLOAT64

LMAX = 3
TRIPLES = [
    (l1, l2, l3)
    for l1, l2 in itertools.product(range(LMAX + 1), repeat=2)
    for l3 in range(abs(l1 - l2), min(l1 + l2, LMAX) + 1)
]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e2 * FLOAT64.relative)


def test_orthogonality():
    """For fixed factors, different degrees and orders of the product are orthogonal."""
    for l1, l2 in itertools.product(range(LMAX + 1), repeat=2):
        degrees = range(abs(l1 - l2), l1 + l2 + 1)
        columns = [
            np.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3).reshape(-1, 2 * l3 + 1)
            for l3 in degrees
        ]
        matrix = np.concatenate(columns, axis=1)
        close(matrix.T @ matrix, np.eye((2 * l1 + 1) * (2 * l2 + 1)))


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "inversion"])
def test_coupling_is_equivariant(improper):
    rotation = random_rotation(3)
    d = representation(-rotation if improper else rotation, LMAX)
    for l1, l2, l3 in TRIPLES:
        block = clebsch_gordan(l1, l2, l3)
        d1, d2, d3 = (d[degree_slice(l), degree_slice(l)] for l in (l1, l2, l3))
        # A product of odd sum is an axial tensor: inversion gives it the other sign.
        sign = (-1) ** (l1 + l2 + l3) if improper else 1
        close(
            np.einsum("abc,ax,by->xyc", block, d1, d2), sign * np.einsum("xyz,cz->xyc", block, d3)
        )


def test_signs():
    """e3nn-jax's for an even sum; for an odd one, exchanging degrees changes the sign."""
    for l1, l2, l3 in TRIPLES:
        block = clebsch_gordan(l1, l2, l3)
        close(np.linalg.norm(block), 1.0)
        sign = (-1) ** (l1 + l2 + l3)
        close(clebsch_gordan(l2, l1, l3), sign * np.swapaxes(block, 0, 1))
        close(clebsch_gordan(l1, l3, l2), sign * np.swapaxes(block, 1, 2))
        if sign > 0:
            theirs = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3))
            close(block, theirs / np.linalg.norm(theirs))
        elif l1 <= l2 <= l3 and len({l1, l2, l3}) == 3:
            assert block.ravel()[np.flatnonzero(block)[0]] > 0


def test_cached_blocks_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 2)[0, 0, 0] = 1.0


def test_reflection_classes():
    lmax = 6
    points = np.random.default_rng(0).normal(size=(5, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    values = harmonics(points, lmax)
    classes = reflection_class(lmax)
    assert classes.shape == (dim(lmax),)
    for axis, bit in enumerate((4, 2, 1)):
        mirror = np.where(np.arange(3) == axis, -1.0, 1.0)
        sign = np.where(classes & bit, -1.0, 1.0)
        close(harmonics(points * mirror, lmax), values * sign)


def test_coupling_paths_conserve_parity_and_are_ordered():
    paths = coupling_paths(1, 3, 2)
    assert all((p.l1 + p.l2 + p.l3) % 2 == 0 for p in paths)
    assert all(abs(p.l1 - p.l2) <= p.l3 <= min(p.l1 + p.l2, 2) for p in paths)
    assert list(paths) == sorted(paths, key=lambda p: (p.l3, p.l1, p.l2))
    assert len(set(paths)) == len(paths) == 8
