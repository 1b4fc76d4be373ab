"""Quadrature rules against integrals that are known, and gradients against differences."""

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.nn.irreps import dim
from mlip.tensor_products.quadrature import (
    gauss_legendre,
    harmonics_at,
    interpolation_points,
    lebedev,
    sphere_rule,
    surface_gradients_at,
)


def grid_points(degree):
    """The points of a product grid and their weights, written out."""
    grid = gauss_legendre(degree)
    y, angle = (a.ravel() for a in np.meshgrid(grid.heights, grid.azimuths, indexing="ij"))
    radius = np.sqrt(1 - y**2)
    points = np.stack([radius * np.sin(angle), y, radius * np.cos(angle)], axis=-1)
    return points, np.repeat(grid.ring_weights, len(grid.azimuths))


@pytest.mark.parametrize("rule", [lebedev, grid_points], ids=["lebedev", "gauss_legendre"])
@pytest.mark.parametrize("degree", [2, 7, 12, 24, 40])
def test_harmonics_are_orthonormal(rule, degree):
    points, weights = rule(degree)
    harmonics = harmonics_at(points, degree // 2)
    overlap = np.einsum("p,ap,bp->ab", weights, harmonics, harmonics)
    np.testing.assert_allclose(overlap, np.eye(dim(degree // 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [lebedev, grid_points], ids=["lebedev", "gauss_legendre"])
def test_points_lie_on_the_sphere_with_positive_weights(rule):
    for degree in (1, 12, 24, 32):
        points, weights = rule(degree)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=0, atol=1e-13)
        assert np.all(weights > 0)
        assert np.sum(weights) == pytest.approx(4 * np.pi, rel=1e-13)


def test_degree_without_a_lebedev_rule():
    with pytest.raises(MlipError, match="exact to degree 132; the last one has degree 131"):
        lebedev(132)


@pytest.mark.parametrize(
    ("degree", "output_lmax"), [(0, 0), (2, 4), (4, 4), (6, 3), (9, 2), (12, 12)]
)
def test_components_from_values_at_few_points(degree, output_lmax):
    points, analysis = sphere_rule(degree, output_lmax)
    assert len(points) <= min(dim(degree), len(lebedev(degree + output_lmax).weights))
    x = np.random.default_rng(0).normal(size=dim(max(degree, output_lmax)))
    x[dim(degree) :] = 0
    components = (x @ harmonics_at(points, max(degree, output_lmax))) @ analysis
    np.testing.assert_allclose(components, x[: dim(output_lmax)], rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", [1, 7, 16])
def test_interpolation_points_are_well_conditioned(degree):
    points = interpolation_points(degree)
    assert points.shape == (dim(degree), 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=0, atol=1e-13)
    assert np.linalg.cond(harmonics_at(points, degree)) < degree + 3


def test_surface_gradients():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(4, 3)), [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    points /= np.linalg.norm(points, axis=1)[:, None]
    gradients = surface_gradients_at(points, 6)
    np.testing.assert_allclose(np.einsum("idp,pi->dp", gradients, points), 0, rtol=0, atol=1e-13)
    step = 1e-5
    for axis, direction in enumerate(step * np.eye(3)):
        above, below = (
            harmonics_at(q / np.linalg.norm(q, axis=1)[:, None], 6)
            for q in (points + direction, points - direction)
        )
        expected = (above - below) / (2 * step)
        np.testing.assert_allclose(gradients[axis], expected, rtol=0, atol=1e-7)
