"""The vector-signal product against Clebsch–Gordan blocks and closed forms."""

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.nn.irreps import clebsch_gordan, coupling_paths
from mlip.tensor_products.gaunt_coefficients import gaunt_coefficients
from mlip.tensor_products.vector_signal import VectorSignal
from tests.support.bilinear import (
    check_layout_and_equivariance,
    check_second_derivatives,
    coupling_constants,
)

PATHS = ["even", "odd"]
DEGREES = [(2, 3, 4), (6, 6, 6), (0, 2, 2), (2, 0, 2), (0, 0, 0)]


@pytest.mark.parametrize("paths", PATHS)
@pytest.mark.parametrize("degrees", DEGREES)
def test_every_triple_is_reached_and_no_other(degrees, paths):
    product = VectorSignal(*degrees)
    constants, residual = coupling_constants(product, paths)
    assert residual < 1e-10
    reached = {triple for triple, found in constants.items() if np.any(np.abs(found) > 1e-3)}
    wanted = {path for path in coupling_paths(*degrees, paths) if min(path) >= (paths == "odd")}
    assert reached == wanted
    for triple in constants.keys() - wanted:
        assert np.all(np.abs(constants[triple]) < 1e-12)
    for degree, copies in enumerate(product.copies(paths)):
        norms = [found**2 for triple, found in constants.items() if triple[2] == degree]
        np.testing.assert_allclose(np.sum(norms, axis=0), (2 * degree + 1) * np.ones(copies))


def test_even_couplings_are_multiples_of_gaunt_coefficients():
    constants, _ = coupling_constants(VectorSignal(3, 4, 3), "even")
    ratios = {degree: [] for degree in range(1, 4)}
    for triple, found in constants.items():
        if triple[2] == 0 or sum(triple) % 2:
            continue
        gaunt = np.vdot(gaunt_coefficients(*triple), clebsch_gordan(*triple))
        a, b, c = (l * (l + 1) for l in triple)
        expected = gaunt * np.array([b + c - a, a + c - b])
        for actual, number in zip(found, expected, strict=True):
            assert (abs(actual) < 1e-12) == (abs(number) < 1e-12)
        used = np.abs(expected) > 1e-12
        ratio = np.full(2, np.nan)
        ratio[used] = found[used] / expected[used]
        ratios[triple[2]].append(ratio)
    for ratio in ratios.values():
        spread = np.nanmax(ratio, axis=0) - np.nanmin(ratio, axis=0)
        assert np.all(spread < 1e-10)
        assert np.all(np.nanmin(ratio, axis=0) > 0)


def test_scalar_products_are_kept_apart():
    constants, _ = coupling_constants(VectorSignal(2, 3, 0), "even")
    for l in range(3):
        np.testing.assert_allclose(np.abs(constants[l, l, 0]), np.eye(3)[l], atol=1e-14)


@pytest.mark.parametrize("paths", PATHS)
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_layout_and_equivariance(paths, sign):
    check_layout_and_equivariance(VectorSignal(2, 1, 3), paths, sign)


@pytest.mark.parametrize("paths", PATHS)
def test_second_derivatives(paths):
    check_second_derivatives(VectorSignal(1, 2, 2), paths)


def test_bad_input():
    with pytest.raises(MlipError, match="degree of -1 was asked for"):
        VectorSignal(-1, 1, 1)
    with pytest.raises(MlipError, match="no Lebedev rule exact to degree 160"):
        VectorSignal(40, 40, 80)
