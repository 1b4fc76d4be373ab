"""Expressivity and interactability against their theory."""

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.nn.irreps import coupling_paths
from mlip.tensor_products.channelwise import ChannelwiseConvolution
from mlip.tensor_products.clebsch_gordan import ClebschGordanSparse
from mlip.tensor_products.edgewise import EdgewiseConvolution
from mlip.tensor_products.gaunt import GauntQuadrature
from mlip.tensor_products.matrix import MatrixProduct
from mlip.tensor_products.measures import (
    convolution_expressivity,
    expressivity,
    interactability,
)
from mlip.tensor_products.path_shared import PathShared, PathSharedConvolution
from mlip.tensor_products.poisson import GauntPoisson
from mlip.tensor_products.so2 import SO2Convolution

DEGREES = [1, 2, 3, 4]


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("to_all", [False, True], ids=["to L", "to 2L"])
def test_clebsch_gordan_reaches_every_coupling(degree, to_all):
    highest = degree * (1 + to_all)
    product = ClebschGordanSparse(degree, degree, highest)
    even = coupling_paths(degree, degree, highest, "even")
    odd = coupling_paths(degree, degree, highest, "odd")
    assert expressivity(product, ("even",)) == len(even)
    assert expressivity(product, ("odd",)) == len(odd)
    assert expressivity(product) == len(even) + len(odd)
    assert interactability(product, ("even",)) == set(even)
    assert interactability(product) == {*even, *odd}
    if to_all:
        n = degree + 1
        assert len(even) == n * (n + 1) * (2 * n + 1) // 6
        assert len(even) + len(odd) == n * (2 * n**2 + 1) // 3


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("operator", [GauntQuadrature, MatrixProduct, PathShared])
def test_one_copy_of_each_degree(operator, degree):
    """One number for each degree of the factors and of the result, less two common scales."""
    assert expressivity(operator(degree, degree, 2 * degree), ("even",)) == 4 * degree + 1
    product = operator(degree, degree, degree)
    assert expressivity(product, ("even",)) == 3 * degree + 1
    assert interactability(product, ("even",)) == set(coupling_paths(degree, degree, degree))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("operator", [GauntPoisson, MatrixProduct])
def test_odd_couplings_of_one_copy_each(operator, degree):
    """As for even ones, but no coupling contains degree 0; together they share the factors."""
    product = operator(degree, degree, 2 * degree)
    assert expressivity(product, ("odd",)) == 4 * degree - 3
    assert expressivity(product) == 6 * degree
    odd = coupling_paths(degree, degree, 2 * degree, "odd")
    assert interactability(product, ("odd",)) == set(odd)


@pytest.mark.parametrize("degree", [1, 3])
def test_weights_of_an_edge(degree):
    degrees = (degree,) * 3
    couplings = len(coupling_paths(*degrees))
    assert convolution_expressivity(ChannelwiseConvolution(*degrees)) == couplings
    gaunt = EdgewiseConvolution(GauntQuadrature(*degrees), "degree")
    assert convolution_expressivity(gaunt) == 3 * degree + 1
    assert convolution_expressivity(PathSharedConvolution(*degrees)) == 2 * degree + 1
    # As with harmonics of up to twice the degree: min(l1, l3) + 1 for each pair.
    pairs = np.minimum.outer(np.arange(degree + 1), np.arange(degree + 1)) + 1
    assert convolution_expressivity(SO2Convolution(*degrees)) == pairs.sum()


def test_unequal_degrees():
    assert expressivity(GauntQuadrature(1, 3, 2), ("even",)) == 2 + 4 + 3 - 2
    assert expressivity(GauntQuadrature(0, 0, 0), ("even",)) == 1


def test_couplings_that_are_not_formed():
    with pytest.raises(MlipError, match="GauntQuadrature forms even couplings, not odd ones"):
        expressivity(GauntQuadrature(1, 1, 1), ("odd",))
