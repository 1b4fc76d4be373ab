"""Many-body couplings: their number is MACE's, and they rotate as they should."""

import numpy as np
import pytest

from mlip.nn.generalized_cg import coupling_tensor, monomial_coefficients, monomials
from mlip.nn.irreps import degree_slice
from tests.support.rotations import random_rotation, representation
from tests.tolerances import FLOAT64


@pytest.mark.parametrize(
    ("degree", "paths"), [(0, (1, 4, 23)), (1, (1, 6, 51)), (2, (1, 7, 65))], ids=["0e", "1o", "2e"]
)
def test_path_counts(degree, paths):
    counts = tuple(coupling_tensor(3, degree, order).shape[0] for order in (1, 2, 3))
    assert counts == paths


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "inversion"])
@pytest.mark.parametrize(("lmax", "order"), [(2, 3), (1, 4)])
def test_couplings_are_equivariant(lmax, order, improper):
    rotation = random_rotation(5)
    d = representation(-rotation if improper else rotation, lmax)
    feature = np.random.default_rng(0).normal(size=len(d))
    for degree in range(lmax + 1):
        own = d[degree_slice(degree), degree_slice(degree)]
        rotated, plain = coupling_tensor(lmax, degree, order), coupling_tensor(lmax, degree, order)
        for _ in range(order):
            rotated, plain = rotated @ (d @ feature), plain @ feature
        np.testing.assert_allclose(rotated, plain @ own.T, rtol=0, atol=1e3 * FLOAT64.relative)


def test_monomials_are_the_same_polynomials():
    feature = np.random.default_rng(1).normal(size=9)
    dense = coupling_tensor(2, 1, 3)
    for _ in range(3):
        dense = dense @ feature
    values = np.prod(feature[np.array(monomials(9, 3))], axis=1)
    sparse = monomial_coefficients(2, 1, 3) @ values
    np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e2 * FLOAT64.relative)
