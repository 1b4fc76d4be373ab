"""The matrix product against Clebsch–Gordan blocks."""

import jax
import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.tensor_products.matrix import MatrixProduct
from tests.support.bilinear import (
    check_layout_and_equivariance,
    check_second_derivatives,
    coupling_constants,
)

PATHS = ["even", "odd"]


@pytest.mark.parametrize("paths", PATHS)
@pytest.mark.parametrize("degrees", [(2, 3, 4), (6, 6, 6), (0, 2, 2)])
def test_couplings(degrees, paths):
    constants, residual = coupling_constants(MatrixProduct(*degrees), paths)
    assert residual < 1e-10
    # The only 6j symbol of these degrees that is zero without a selection rule: {3 5 5; 3 3 3}.
    accidental = {(3, 5, 5), (5, 3, 5), (5, 5, 3)}
    for triple, found in constants.items():
        wanted = sum(triple) % 2 == (paths == "odd") and triple not in accidental
        if wanted and min(triple, default=0) >= (paths == "odd"):
            assert np.all(np.abs(found) > 1e-3)
        else:
            assert np.all(np.abs(found) < 1e-12)


@pytest.mark.parametrize("paths", PATHS)
def test_unit_variance(paths):
    product = MatrixProduct(2, 3, 4)
    constants, _ = coupling_constants(product, paths)
    for degree, copies in enumerate(product.copies(paths)):
        norms = [found**2 for triple, found in constants.items() if triple[2] == degree]
        np.testing.assert_allclose(np.sum(norms, axis=0), (2 * degree + 1) * np.ones(copies))


def test_exchange_of_the_factors():
    x, y = np.random.default_rng(0).normal(size=(2, 1, 9, 1))
    product = jax.jit(MatrixProduct(2, 2, 2), static_argnums=2)
    for paths, sign in (("even", 1), ("odd", -1)):
        for one, other in zip(product(x, y, paths), product(y, x, paths), strict=True):
            np.testing.assert_allclose(one, sign * other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("paths", PATHS)
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_layout_and_equivariance(paths, sign):
    check_layout_and_equivariance(MatrixProduct(2, 1, 3), paths, sign)


@pytest.mark.parametrize("paths", PATHS)
def test_second_derivatives(paths):
    check_second_derivatives(MatrixProduct(1, 2, 2), paths)


def test_bad_input():
    with pytest.raises(MlipError, match="degree of -1 was asked for"):
        MatrixProduct(1, 1, -1)
    with pytest.raises(MlipError, match="not mixed ones"):
        MatrixProduct(1, 1, 1).copies("mixed")
