"""Gaunt products on points against the Gaunt coefficients."""

import jax
import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.nn.irreps import dim
from mlip.tensor_products.gaunt import GauntGrid, GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import (
    gaunt_coefficients,
    gaunt_normalization,
    gaunt_tensor,
)
from mlip.tensor_products.quadrature import harmonics_at, lebedev
from tests.support.bilinear import (
    check_layout_and_equivariance,
    check_second_derivatives,
    coupling_tensors,
)
from tests.tolerances import FLOAT32

PRODUCTS = [GauntQuadrature, GauntGrid]


@pytest.mark.parametrize("degrees", [(1, 2, 3), (3, 3, 2), (2, 2, 0)])
def test_coefficients_are_the_integrals(degrees):
    points, weights = lebedev(sum(degrees))
    first, second, third = (harmonics_at(points, l)[l**2 :] for l in degrees)
    integral = np.einsum("p,ap,bp,cp->abc", weights, first, second, third)
    np.testing.assert_allclose(gaunt_coefficients(*degrees), integral, rtol=0, atol=1e-14)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 2, 3), (1, 1, 3), (0, 1, 2)])
def test_selection_rules(degrees):
    assert not np.any(gaunt_coefficients(*degrees))


@pytest.mark.parametrize("operator", PRODUCTS)
@pytest.mark.parametrize("degrees", [(3, 2, 5), (2, 3, 1), (2, 0, 2), (0, 0, 0), (1, 1, 2)])
def test_equals_the_gaunt_coefficients(operator, degrees):
    product = operator(*degrees)
    assert product.copies() == (1,) * (degrees[2] + 1)
    parts = coupling_tensors(product, "even")
    expected = gaunt_tensor(*degrees)
    actual = np.concatenate(parts, axis=2)[..., 0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13)
    # Independent components of unit variance give components of unit variance.
    variance = [np.sum(part**2) / part.shape[2] for part in parts]
    np.testing.assert_allclose(variance, 1, rtol=1e-12)


@pytest.mark.parametrize("operator", PRODUCTS)
def test_high_degrees(operator):
    lmax = 10
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2, dim(lmax), 1))
    parts = jax.jit(operator(lmax, lmax, 2 * lmax))(x, y)
    z = np.concatenate([part[..., 0] for part in parts], axis=1)
    normalization = gaunt_normalization(lmax, lmax, 2 * lmax)
    z /= np.repeat(normalization, 2 * np.arange(2 * lmax + 1) + 1)
    points = rng.normal(size=(50, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    factors = [a[..., 0] @ harmonics_at(points, lmax) for a in (x, y)]
    np.testing.assert_allclose(
        z @ harmonics_at(points, 2 * lmax), factors[0] * factors[1], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("operator", PRODUCTS)
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_layout_and_equivariance(operator, sign):
    check_layout_and_equivariance(operator(2, 1, 3), "even", sign)


@pytest.mark.parametrize("operator", PRODUCTS)
def test_second_derivatives(operator):
    check_second_derivatives(operator(1, 2, 2), "even")


@pytest.mark.parametrize("operator", PRODUCTS)
def test_single_precision(operator):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, dim(3), 2))
    program = jax.jit(operator(3, 3, 3))
    single = program(x.astype(np.float32), y.astype(np.float32))
    for part, expected in zip(single, program(x, y), strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, expected, rtol=0, atol=10 * FLOAT32.relative)


@pytest.mark.parametrize("operator", PRODUCTS)
def test_odd_couplings_are_refused(operator):
    with pytest.raises(MlipError, match="forms even couplings, not odd ones"):
        operator(1, 1, 1).copies("odd")


def test_points_are_as_few_as_the_result_has_components():
    matrices = GauntQuadrature(6, 6, 12).matrices("even")
    assert matrices.analysis.shape == (dim(12), dim(12))
    # Where few components are wanted, integrating them takes fewer points: Lebedev's 146.
    assert GauntQuadrature(6, 6, 6).matrices("even").analysis.shape == (146, dim(6))


def test_single_precision_does_not_suffer_from_interpolation():
    lmax = 6
    x, y = np.random.default_rng(0).normal(size=(2, 200, dim(lmax), 1))
    program = jax.jit(GauntQuadrature(lmax, lmax, 2 * lmax))
    single = np.concatenate(program(x.astype(np.float32), y.astype(np.float32)), axis=1)
    expected = np.concatenate(program(x, y), axis=1)
    assert np.sqrt(np.mean((single - expected) ** 2)) < 1e-6
    assert np.max(np.abs(single - expected)) < 1e-5
