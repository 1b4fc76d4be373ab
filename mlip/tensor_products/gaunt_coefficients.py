"""Integrals of three spherical harmonics, and the normalisation of the Gaunt products."""

from __future__ import annotations

from functools import cache
from math import factorial, pi, sqrt

import numpy as np
from jaxtyping import Float

from mlip.nn.irreps import clebsch_gordan, degree_slice, dim


@cache
def gaunt_coefficients(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """Integrals over the sphere of three real harmonics of unit norm, G.

        G = ∫ Y_{l1 m1} Y_{l2 m2} Y_{l3 m3} dΩ
          = √[(2 l1+1)(2 l2+1)(2 l3+1) / 4π] (l1 l2 l3; 0 0 0) (l1 l2 l3; m1 m2 m3)

    The sign of the real coefficients (l1 l2 l3; m1 m2 m3) is a convention, but cancels here: the
    first bracket is the second one at m1 = m2 = m3 = 0.

    Args:
        l1: degree of the first factor.
        l2: degree of the second factor.
        l3: degree of the result.

    Returns:
        float64, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), read-only; zero where l1 + l2 + l3 is odd or
        outside the triangle.
    """
    shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
    result = np.zeros(shape)
    if (l1 + l2 + l3) % 2 == 0 and abs(l1 - l2) <= l3 <= l1 + l2:
        block = clebsch_gordan(l1, l2, l3)
        result = sqrt(np.prod(shape) / (4 * pi)) * block[l1, l2, l3] * block
    result.setflags(write=False)
    return result


@cache
def gaunt_normalization(lmax1: int, lmax2: int, output_lmax: int) -> Float[np.ndarray, "degrees"]:
    """Factor of each degree of a Gaunt product that gives its components unit variance.

        z_{l3} = n_{l3} Σ_{l1 ≤ lmax1, l2 ≤ lmax2} G_{l1 l2 l3} x_{l1} y_{l2},
        n_{l3}⁻² = Σ_{l1 l2} (2 l1+1)(2 l2+1)/4π (l1 l2 l3; 0 0 0)²,

    the variance of Σ G x y for independent components of x and y of unit variance. All Gaunt
    products of the library return this z.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result, lmax1 + lmax2 at most.

    Returns:
        float64, shape (output_lmax + 1,), read-only.
    """
    result = np.zeros(output_lmax + 1)
    for l3 in range(output_lmax + 1):
        variance = sum(
            (2 * l1 + 1) * (2 * l2 + 1) / (4 * pi) * squared_3j_at_zero(l1, l2, l3)
            for l1 in range(lmax1 + 1)
            for l2 in range(lmax2 + 1)
        )
        result[l3] = 1 / sqrt(variance)
    result.setflags(write=False)
    return result


@cache
def gaunt_tensor(lmax1: int, lmax2: int, output_lmax: int) -> Float[np.ndarray, "d1 d2 d3"]:
    """The coefficients n_{l3} G of a Gaunt product; see `gaunt_normalization`.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Returns:
        float64, shape ((lmax1 + 1)², (lmax2 + 1)², (output_lmax + 1)²), read-only.
    """
    result = np.zeros((dim(lmax1), dim(lmax2), dim(output_lmax)))
    for l3, factor in enumerate(gaunt_normalization(lmax1, lmax2, output_lmax)):
        for l1 in range(lmax1 + 1):
            for l2 in range(lmax2 + 1):
                block = factor * gaunt_coefficients(l1, l2, l3)
                result[degree_slice(l1), degree_slice(l2), degree_slice(l3)] = block
    result.setflags(write=False)
    return result


def squared_3j_at_zero(l1: int, l2: int, l3: int) -> float:
    """(l1 l2 l3; 0 0 0)², the square of Wigner's 3j symbol.

        (2g−2l1)! (2g−2l2)! (2g−2l3)! / (2g+1)! · [g! / ((g−l1)! (g−l2)! (g−l3)!)]²,
        2g = l1 + l2 + l3

    Args:
        l1: first degree.
        l2: second degree.
        l3: third degree.
    """
    total = l1 + l2 + l3
    if total % 2 or not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    numerator = factorial(total // 2) ** 2
    denominator = factorial(total + 1)
    for l in (l1, l2, l3):
        numerator *= factorial(total - 2 * l)
        denominator *= factorial(total // 2 - l) ** 2
    return numerator / denominator
