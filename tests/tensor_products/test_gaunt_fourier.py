"""The Gaunt product by Fourier series, against integrals over the sphere and closed forms."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy.special import roots_legendre

from mlip.errors import MlipError
from mlip.nn.irreps import degree_slice, dim
from mlip.tensor_products.fourier import azimuthal_products, polar_integrals, polar_series
from mlip.tensor_products.gaunt_coefficients import gaunt_coefficients, gaunt_normalization
from mlip.tensor_products.gaunt_fourier import GauntFourier
from tests.support.bilinear import (
    check_layout_and_equivariance,
    check_second_derivatives,
    coupling_tensors,
)
from tests.support.rotations import harmonics

METHODS = ["fft", "direct"]


def integrated(lmax1, lmax2, output_lmax, x, y):
    """The product of two functions, integrated over the sphere on a Gauss–Legendre grid."""
    points = lmax1 + lmax2 + output_lmax + 2
    height, weight = roots_legendre(points)
    azimuth = 2 * np.pi * np.arange(2 * points) / (2 * points)
    ring, angle = np.sqrt(1 - np.repeat(height, 2 * points) ** 2), np.tile(azimuth, points)
    unit = np.stack(
        [ring * np.sin(angle), np.repeat(height, 2 * points), ring * np.cos(angle)], axis=-1
    )
    first, second, third = (harmonics(unit, l) for l in (lmax1, lmax2, output_lmax))
    values = (x[..., 0] @ first.T) * (y[..., 0] @ second.T)
    # Harmonics of unit norm are 1/√4π times those of the features.
    return values * np.repeat(weight, 2 * points) * np.pi / points @ third / (4 * np.pi) ** 1.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("degrees", [(6, 6, 12), (3, 5, 2), (3, 0, 1), (0, 2, 2)])
def test_equals_the_integral(degrees, method):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(4, dim(l), 1)) for l in degrees[:2])
    normalization = gaunt_normalization(*degrees)
    expected = integrated(*degrees, x, y)
    expected *= np.repeat(normalization, 2 * np.arange(degrees[2] + 1) + 1)
    parts = jax.jit(GauntFourier(*degrees, method))(x, y)
    assert [part.shape[-1] for part in parts] == [1] * (degrees[2] + 1)
    actual = np.concatenate([part[..., 0] for part in parts], axis=-1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_gaunt_coefficients(method):
    degrees = (3, 2, 5)
    normalization = gaunt_normalization(*degrees)
    for l3, tensor in enumerate(coupling_tensors(GauntFourier(*degrees, method), "even")):
        for l1 in range(degrees[0] + 1):
            for l2 in range(degrees[1] + 1):
                block = tensor[degree_slice(l1), degree_slice(l2), :, 0]
                expected = normalization[l3] * gaunt_coefficients(l1, l2, l3)
                np.testing.assert_allclose(block, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_layout_and_equivariance(method, sign):
    check_layout_and_equivariance(GauntFourier(2, 1, 3, method), "even", sign)


@pytest.mark.parametrize("method", METHODS)
def test_second_derivatives(method):
    check_second_derivatives(GauntFourier(1, 2, 2, method), "even")


@pytest.mark.parametrize("method", METHODS)
def test_single_precision(method):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, 9, 2))
    product = GauntFourier(2, 2, 2, method)
    single = jax.jit(product)(x.astype(np.float32), y.astype(np.float32))
    for actual, expected in zip(single, jax.jit(product)(x, y), strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_series_are_the_harmonics():
    lmax = 7
    polar, azimuth = np.random.default_rng(0).uniform(-3, 3, size=(2, 50))
    unit = np.stack(
        [np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], axis=-1
    )
    expected = harmonics(unit, lmax)
    series = polar_series(lmax)
    orders = np.arange(-lmax, lmax + 1)
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            waves = np.exp(1j * polar[:, None] * orders) / (1j if m % 2 else 1)
            along_azimuth = np.cos(m * azimuth) if m >= 0 else np.sin(-m * azimuth)
            actual = (waves @ series[abs(m), l]) * along_azimuth
            np.testing.assert_allclose(actual, expected[:, l * l + l + m], rtol=0, atol=1e-13)


def test_projections_are_the_integrals():
    lmax, highest = 5, 8
    height, weight = roots_legendre(20)
    polar = np.arccos(height)
    values = harmonics(np.stack([0 * polar, height, np.sin(polar)], axis=-1), lmax)
    for l in range(lmax + 1):
        for m in range(l + 1):
            for u in range(-highest, highest + 1):
                wave = np.sin(u * polar) if m % 2 else np.cos(u * polar)
                expected = np.sum(weight * wave * values[:, l * l + l + m])
                actual = polar_integrals(lmax, highest)[m, l, u + highest]
                assert actual == pytest.approx(expected, abs=1e-12)


def test_products_of_cosines_and_sines():
    angle = np.linspace(0, 6, 30)

    def terms(highest):
        m = np.arange(-highest, highest + 1)
        return np.where(m < 0, np.sin(-m * angle[:, None]), np.cos(m * angle[:, None]))

    expected = terms(3)[:, :, None] * terms(2)[:, None]
    actual = np.einsum("abk,pk->pab", azimuthal_products(3, 2, 5), terms(5))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14)


def test_bad_input():
    with pytest.raises(MlipError, match="degree of -1 was asked for"):
        GauntFourier(1, -1, 1)
    with pytest.raises(MlipError, match="GauntFourier forms even couplings, not odd ones"):
        partial(GauntFourier(1, 1, 1), paths="odd")(np.ones((1, 4, 1)), np.ones((1, 4, 1)))
