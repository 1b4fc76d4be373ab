"""The Gaunt product and its odd complement, the Poisson bracket on the sphere."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt
from typing import Literal

import numpy as np
from jaxtyping import Float

from mlip.settings import Settings
from mlip.tensor_products.gaunt import GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import squared_3j_at_zero
from mlip.tensor_products.pointwise import PointwiseMatrices
from mlip.tensor_products.protocol import Paths
from mlip.tensor_products.quadrature import sphere_rule, surface_gradients_at
from mlip.tensor_products.sphere import repeat_degrees


class GauntPoissonSettings(Settings):
    """Options of the Gaunt product with its odd complement: none."""

    name: Literal["gaunt_poisson"] = "gaunt_poisson"


class GauntPoisson(GauntQuadrature):
    """Even couplings by the product of two functions on the sphere, odd ones by their bracket.

        even: X Y,   odd: {X, Y} = r̂ · (∇_S X × ∇_S Y),   both in components

    The bracket is antisymmetric, of degree l1 + l2 − 1 at most, and a pseudo-tensor; its harmonic
    components couple exactly the degrees with an odd sum. As in the Gaunt product all couplings
    that end in one degree are added, with fixed constants and a factor that gives components of
    unit variance (`poisson_normalization`). With two tangents e1 × e2 = r̂ at each point it is a
    pointwise product of two terms, (e1·∇X)(e2·∇Y) − (e2·∇X)(e1·∇Y).

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.

    Source: Arnold & Khesin, Topological Methods in Hydrodynamics, 1998, section I.11, for the
    bracket.
    """

    paths: tuple[Paths, ...] = ("even", "odd")

    def matrices(self, paths: Paths) -> PointwiseMatrices:
        """The constants of the product or of the bracket."""
        if paths == "odd":
            return poisson_matrices(self.lmax1, self.lmax2, self.output_lmax)
        return super().matrices(paths)


@cache
def poisson_matrices(lmax1: int, lmax2: int, output_lmax: int) -> PointwiseMatrices:
    """The constants of the bracket as a pointwise product of two terms.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.
    """
    points, analysis = sphere_rule(max(lmax1 + lmax2 - 1, 0), output_lmax)
    factors = repeat_degrees(poisson_normalization(lmax1, lmax2, output_lmax))
    tangents = _tangents(points)
    first, second = (
        np.einsum("tpi,idp->tdp", tangents, surface_gradients_at(points, lmax))
        for lmax in (lmax1, lmax2)
    )
    return PointwiseMatrices(
        np.concatenate([first[0], first[1]], axis=1),
        np.concatenate([second[1], -second[0]], axis=1),
        analysis * factors,
    )


def _tangents(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "2 P 3"]:
    """Right-handed frames of the tangent planes; any will do."""
    farthest_axis = np.eye(3)[np.argmin(np.abs(points), axis=1)]
    first = np.cross(points, farthest_axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(points, first)])


@cache
def poisson_normalization(lmax1: int, lmax2: int, output_lmax: int) -> Float[np.ndarray, "degrees"]:
    """Factor of each degree of the bracket that gives its components unit variance.

        n_{l3}⁻² = Σ_{l1 ≤ lmax1, l2 ≤ lmax2} K(l1, l2, l3)² / (2 l3+1)

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Returns:
        float64, shape (output_lmax + 1,), read-only; zero for degrees never reached.
    """
    result = np.zeros(output_lmax + 1)
    for l3 in range(output_lmax + 1):
        variance = sum(
            poisson_constant(l1, l2, l3) ** 2 / (2 * l3 + 1)
            for l1 in range(lmax1 + 1)
            for l2 in range(lmax2 + 1)
        )
        result[l3] = 1 / sqrt(variance) if variance else 0.0
    result.setflags(write=False)
    return result


def poisson_constant(a: int, b: int, c: int) -> float:
    """Size |K| of the coupling a, b → c in the bracket of harmonics of unit norm.

        K² = (2a+1)(2b+1)(2c+1)/4π · (s+2)(s+4) / (4 (s+3))
             · (a+b−c+1)(a−b+c+1)(−a+b+c+1) (a+1 b+1 c+1; 0 0 0)²,   s = a + b + c,

    for an odd s and degrees of 1 and more that form a triangle, and zero otherwise.

    Args:
        a: degree of the first factor.
        b: degree of the second factor.
        c: degree of the result.
    """
    s = a + b + c
    if s % 2 == 0 or min(a, b, c) == 0 or not abs(a - b) <= c <= a + b:
        return 0.0
    sizes = (2 * a + 1) * (2 * b + 1) * (2 * c + 1) / (4 * pi)
    triangle = (a + b - c + 1) * (a - b + c + 1) * (-a + b + c + 1)
    total = (s + 2) * (s + 4) / (4 * (s + 3))
    return sqrt(sizes * total * triangle * squared_3j_at_zero(a + 1, b + 1, c + 1))
