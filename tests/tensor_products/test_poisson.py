"""Both halves of the product with odd couplings: the Gaunt product and the Poisson bracket."""

import numpy as np
import pytest

from mlip.tensor_products.gaunt_coefficients import gaunt_tensor
from mlip.tensor_products.poisson import GauntPoisson, poisson_constant, poisson_normalization
from tests.support.bilinear import (
    check_layout_and_equivariance,
    check_second_derivatives,
    coupling_constants,
    coupling_tensors,
)


def test_even_half_is_the_gaunt_product():
    actual = np.concatenate(coupling_tensors(GauntPoisson(2, 2, 3), "even"), axis=2)
    np.testing.assert_allclose(actual[..., 0], gaunt_tensor(2, 2, 3), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (3, 4, 6), (4, 2, 3)])
def test_odd_half_has_the_constants_in_closed_form(degrees):
    product = GauntPoisson(*degrees)
    factors = poisson_normalization(*degrees)
    found, residual = coupling_constants(product, "odd")
    assert residual < 1e-12
    for (l1, l2, l3), constant in found.items():
        expected = poisson_constant(l1, l2, l3) * factors[l3]
        if not product.copies("odd")[l3]:
            assert expected == 0
            continue
        assert abs(constant[0]) == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert (expected > 0) == ((l1 + l2 + l3) % 2 == 1 and min(l1, l2, l3) > 0)


def test_cross_product_of_vectors():
    tensor = coupling_tensors(GauntPoisson(1, 1, 1), "odd")[1][1:, 1:, :, 0]
    x, y = np.random.default_rng(0).normal(size=(2, 3))
    actual = np.einsum("ijk,i,j->k", tensor, x, y)
    np.testing.assert_allclose(actual, np.cross(x, y) / np.sqrt(2), rtol=0, atol=1e-13)


def test_odd_half_is_antisymmetric_with_unit_variance():
    product = GauntPoisson(3, 3, 4)
    assert product.copies("odd") == (0, 1, 1, 1, 1)
    assert GauntPoisson(2, 3, 5).copies("odd") == (0, 1, 1, 1, 1, 0)
    for tensor in coupling_tensors(product, "odd")[1:]:
        np.testing.assert_allclose(tensor, -np.swapaxes(tensor, 0, 1), rtol=0, atol=1e-13)
        assert np.sum(tensor**2) / tensor.shape[2] == pytest.approx(1, rel=1e-12)


def test_brackets_with_constants_vanish():
    for degrees in ((0, 2, 2), (0, 0, 0)):
        product = GauntPoisson(*degrees)
        assert not any(product.copies("odd"))
        assert all(part.shape[-1] == 0 for part in coupling_tensors(product, "odd"))


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_layout_and_equivariance(sign):
    check_layout_and_equivariance(GauntPoisson(2, 1, 2), "odd", sign)


def test_second_derivatives():
    check_second_derivatives(GauntPoisson(1, 2, 2), "odd")
