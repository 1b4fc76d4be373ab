"""The Gaunt product and its odd complement, the Poisson bracket on the sphere."""

from __future__ import annotations

from functools import cache
from math import isqrt, pi, sqrt
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.settings import Settings
from mlip.tensor_products.gaunt import GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import squared_3j_at_zero
from mlip.tensor_products.protocol import Paths
from mlip.tensor_products.quadrature import surface_gradients_at
from mlip.tensor_products.sphere import (
    SphereField,
    antipodal_half,
    apply_rows,
    degree_parity,
    split_rows,
)


class GauntPoissonSettings(Settings):
    """Options of the Gaunt product with its odd complement: none."""

    name: Literal["gaunt_poisson"] = "gaunt_poisson"


class GauntPoisson(GauntQuadrature):
    """Even couplings by the product of two functions on the sphere, odd ones by their bracket.

        even: X Y,   odd: {X, Y} = r̂ · (∇_S X × ∇_S Y),   both in components on Lebedev points

    The bracket is antisymmetric, of degree l1 + l2 − 1 at most, and a pseudo-tensor; its harmonic
    components couple exactly the degrees with an odd sum. As in the Gaunt product all couplings
    that end in one degree are added, with fixed constants and a factor that gives components of
    unit variance (`poisson_normalization`).

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Source: Arnold & Khesin, Topological Methods in Hydrodynamics, 1998, section I.11, for the
    bracket.
    """

    paths: tuple[Paths, ...] = ("even", "odd")

    def multiplies(self, paths: Paths = "even") -> int:
        """For the bracket two derivatives of each factor, and two products."""
        even = super().multiplies("even")
        if paths == "even":
            return even
        synthesis = self.transform.multiplies(self.lmax1) + self.transform.multiplies(self.lmax2)
        return even + synthesis + 2 * self.transform.num_points

    def normalization(self, paths: Paths) -> Float[np.ndarray, "degrees"]:
        """Factor of each degree of the result; zero for those never reached."""
        if paths == "odd":
            return poisson_normalization(self.lmax1, self.lmax2, self.output_lmax)
        return super().normalization(paths)

    def multiply(
        self, x: Float[Array, "d1 N channels"], y: Float[Array, "d2 N channels"], paths: Paths
    ) -> SphereField:
        """The product or the bracket as a function on the sphere."""
        if paths == "even" or min(self.lmax1, self.lmax2) == 0:
            return super().multiply(x, y, paths)  # brackets with a constant vanish, and are dropped
        x_even, x_odd = tangent_derivatives(x, self.transform.degree)
        y_even, y_odd = tangent_derivatives(y, self.transform.degree)
        # Gradients of even functions are odd and r̂ is odd: the bracket of two even ones is odd.
        return SphereField(
            _cross(x_even, y_odd) + _cross(x_odd, y_even),
            _cross(x_even, y_even) + _cross(x_odd, y_odd),
        )


def _cross(
    x: Float[Array, "2 half N channels"], y: Float[Array, "2 half N channels"]
) -> Float[Array, "half N channels"]:
    """Component along r̂ of the cross product of two tangent vectors."""
    return x[0] * y[1] - x[1] * y[0]


def tangent_derivatives(
    x: Float[Array, "d N channels"], degree: int
) -> tuple[Float[Array, "2 half N channels"], Float[Array, "2 half N channels"]]:
    """Derivatives of Σ x_lm Y_lm along two tangents e1, e2 with e1 × e2 = r̂ at half of the points.

    Args:
        x: components of degrees 0..lmax, lmax ≥ 1, on the first axis.
        degree: of the Lebedev rule.

    Returns:
        those of the even and those of the odd degrees.
    """
    even, odd = _derivative_tables(degree, isqrt(x.shape[0]) - 1)
    degrees = split_rows(x)
    return _along_tangents(even, degrees[::2]), _along_tangents(odd, degrees[1::2])


def _along_tangents(
    table: Float[np.ndarray, "d 2 half"], degrees: list[Float[Array, "m N channels"]]
) -> Float[Array, "2 half N channels"]:
    values = apply_rows(table.reshape(table.shape[0], -1).T, jnp.concatenate(degrees))
    return values.reshape(2, -1, *values.shape[1:])


@cache
def _derivative_tables(degree: int, lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of the harmonics of even and of odd degrees, shapes (components, 2, half)."""
    points = antipodal_half(degree).points
    along = np.einsum("tpi,idp->dtp", _tangents(points), surface_gradients_at(points, lmax))
    odd = degree_parity(lmax) == 1
    return along[~odd], along[odd]


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
