"""Expressivity and interactability against their theory."""

import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.nn.irreps import coupling_paths
from mlip.tensor_products.channelwise import ChannelwiseConvolution
from mlip.tensor_products.clebsch_gordan import ClebschGordanSparse
from mlip.tensor_products.cp import CPProduct, CPSettings, cp_convolution
from mlip.tensor_products.edgewise import EdgewiseConvolution
from mlip.tensor_products.gaunt import GauntGrid, GauntQuadrature
from mlip.tensor_products.gaunt_fourier import GauntFourier
from mlip.tensor_products.matrix import MatrixProduct
from mlip.tensor_products.measures import (
    convolution_expressivity,
    expressivity,
    interactability,
)
from mlip.tensor_products.path_shared import PathShared, PathSharedConvolution
from mlip.tensor_products.poisson import GauntPoisson
from mlip.tensor_products.so2 import SO2Convolution
from mlip.tensor_products.vector_signal import VectorSignal

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


@pytest.mark.parametrize("operator", [GauntQuadrature, MatrixProduct, PathShared])
@pytest.mark.parametrize("degree", DEGREES)
def test_one_copy_of_each_degree(operator, degree):
    """One number for each degree of the factors and of the result, less two common scales."""
    assert expressivity(operator(degree, degree, 2 * degree), ("even",)) == 4 * degree + 1
    product = operator(degree, degree, degree)
    assert expressivity(product, ("even",)) == 3 * degree + 1
    assert interactability(product, ("even",)) == set(coupling_paths(degree, degree, degree))


@pytest.mark.parametrize("operator", [GauntGrid, GauntFourier, CPProduct])
def test_one_copy_of_each_degree_formed_in_other_ways(operator):
    product = operator(2, 2, 4)
    assert expressivity(product) == 4 * 2 + 1
    assert interactability(product) == set(coupling_paths(2, 2, 4))


def test_every_coupling_of_both_parities_added_up():
    """Decomposed at the exact rank, and below it up to the error of the decomposition."""
    every = {*coupling_paths(2, 2, 2, "even"), *coupling_paths(2, 2, 2, "odd")}
    exact = CPProduct(2, 2, 2, paths="all")
    assert expressivity(exact) == 3 * 2 + 1
    assert interactability(exact) == every
    paper = CPProduct(2, 2, 2, rank="paper", paths="all")
    assert interactability(paper, negligible=0.1) == every


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_vector_signals(degree):
    """Two copies of each degree but 0, and there one for each scalar product.

    That gives 2 (L + 1) + (L + 1) + 4 L numbers, less two common scales and one since both copies
    of degree 2L hold the same single coupling: 7 L, but no more than there are couplings. The odd
    couplings are those of the bracket.
    """
    product = VectorSignal(degree, degree, 2 * degree)
    even, odd = (coupling_paths(degree, degree, 2 * degree, one) for one in ("even", "odd"))
    assert expressivity(product, ("even",)) == min(7 * degree, len(even))
    assert expressivity(product, ("odd",)) == 4 * degree - 3
    assert expressivity(product) == min(9 * degree - 1, len(even) + len(odd))
    assert interactability(product) == {*even, *odd}


def test_couplings_whose_6j_symbol_vanishes():
    """Matrices of degree 3 hold degrees to 6; {3 5 5; 3 3 3} is zero."""
    missing = {(3, 5, 5), (5, 3, 5), (5, 5, 3)}
    product = MatrixProduct(5, 5, 5)
    assert interactability(product, ("odd",)) == {*coupling_paths(5, 5, 5, "odd")} - missing
    assert interactability(product, ("even",)) == {*coupling_paths(5, 5, 5, "even")}


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
    assert convolution_expressivity(cp_convolution(CPSettings(), *degrees)) == 2 * degree + 1
    # As with harmonics of up to twice the degree: min(l1, l3) + 1 for each pair.
    pairs = np.minimum.outer(np.arange(degree + 1), np.arange(degree + 1)) + 1
    assert convolution_expressivity(SO2Convolution(*degrees)) == pairs.sum()
    fewer = np.minimum(pairs, 2).sum()
    assert convolution_expressivity(SO2Convolution(*degrees, mmax=1)) == fewer


def test_unequal_degrees():
    assert expressivity(GauntQuadrature(1, 3, 2), ("even",)) == 2 + 4 + 3 - 2
    assert expressivity(GauntQuadrature(0, 0, 0), ("even",)) == 1


def test_couplings_that_are_not_formed():
    with pytest.raises(MlipError, match="GauntQuadrature forms even couplings, not odd ones"):
        expressivity(GauntQuadrature(1, 1, 1), ("odd",))
