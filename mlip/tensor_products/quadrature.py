"""Points on the unit sphere for quadrature and interpolation, and the harmonics at them."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import lebedev_rule
from scipy.linalg import qr

from mlip.errors import MlipError
from mlip.nn.irreps import clebsch_gordan, degree_slice, dim
from mlip.nn.spherical_harmonics import spherical_harmonics

# Degrees of the rules whose weights are all positive; negative ones amplify rounding.
_LEBEDEV_DEGREES = (
    *(3, 5, 7, 9, 11, 15, 17, 19, 21, 23, 29, 31, 35, 41, 47, 53, 59, 65, 71, 77),
    *(83, 89, 95, 101, 107, 113, 119, 125, 131),
)

_SPIRAL_POINTS = 10  # candidates for each point that is chosen
_MAX_INTERPOLATED_DEGREE = 24  # choosing points for it takes some seconds, with degree⁶


class Quadrature(NamedTuple):
    """Points and weights that integrate polynomials over the sphere exactly.

    Attributes:
        points: unit vectors.
        weights: positive, with the sum 4π.
    """

    points: Float[np.ndarray, "P 3"]
    weights: Float[np.ndarray, "P"]


class ProductGrid(NamedTuple):
    """Rings around the polar axis y, with the same azimuths on each.

    Attributes:
        heights: y of the rings.
        ring_weights: weight of one point of each ring; all points together have 4π.
        azimuths: from z to x, radians.
    """

    heights: Float[np.ndarray, "rings"]
    ring_weights: Float[np.ndarray, "rings"]
    azimuths: Float[np.ndarray, "azimuths"]


@cache
def lebedev(degree: int) -> Quadrature:
    """The smallest Lebedev rule of at least this exactness, with about (degree + 1)²/3 points.

    Args:
        degree: highest degree of the polynomials that are integrated exactly.

    Raises:
        MlipError: for a degree above 131, the last rule.

    Source: Lebedev & Laikov, Doklady Mathematics 59 (1999) 477.
    """
    rule = next((found for found in _LEBEDEV_DEGREES if found >= degree), None)
    if rule is None:
        raise MlipError(
            f"There is no Lebedev rule exact to degree {degree}; the last one has degree "
            f"{_LEBEDEV_DEGREES[-1]}. Use gaunt_grid, or lower degrees."
        )
    points, weights = lebedev_rule(rule)
    return Quadrature(_constant(points.T), _constant(weights))


@cache
def gauss_legendre(degree: int) -> ProductGrid:
    """Gauss–Legendre heights times uniform azimuths, with about (degree + 1)²/2 points.

    Args:
        degree: highest degree of the polynomials that are integrated exactly.
    """
    heights, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    num_azimuths = degree + 1
    azimuths = 2 * pi * np.arange(num_azimuths) / num_azimuths
    return ProductGrid(
        _constant(heights), _constant(weights * 2 * pi / num_azimuths), _constant(azimuths)
    )


class SphereRule(NamedTuple):
    """Points from whose values the harmonic components of a function follow.

    Attributes:
        points: unit vectors.
        analysis: ∫ f Y_lm dΩ = Σ_p analysis_plm f(p) for polynomials f of some degree.
    """

    points: Float[np.ndarray, "P 3"]
    analysis: Float[np.ndarray, "P d"]


@cache
def sphere_rule(degree: int, output_lmax: int) -> SphereRule:
    """The fewest points that give the low components of any polynomial of some degree.

    A Lebedev rule takes about (degree + output_lmax + 1)²/3 points, since it integrates the
    polynomial times a harmonic. Values at (degree + 1)² points, the number of coefficients,
    determine the polynomial itself: fewer points where most of the components are wanted.

    Args:
        degree: of the polynomial.
        output_lmax: highest degree of the components.

    Raises:
        MlipError: for degrees whose sum is above 131, the last Lebedev rule.
    """
    points, weights = lebedev(degree + output_lmax)
    if degree <= _MAX_INTERPOLATED_DEGREE and (degree + 1) ** 2 < len(points):
        points = interpolation_points(degree)
        every = np.linalg.inv(harmonics_at(points, degree))
        analysis = np.zeros((len(points), dim(output_lmax)))
        wanted = dim(min(degree, output_lmax))
        analysis[:, :wanted] = every[:, :wanted]
        return SphereRule(points, _constant(analysis))
    return SphereRule(points, _constant((harmonics_at(points, output_lmax) * weights).T))


@cache
def interpolation_points(degree: int) -> Float[np.ndarray, "P 3"]:
    """As many points as there are harmonics up to a degree, such that values determine all.

    Chosen out of a fine spiral, one after the other, each where the harmonics differ most from
    what the chosen ones span; a pivoted QR factorisation does that. The matrix of the harmonics
    has a condition number of about degree + 2, up to degree 20.

    Args:
        degree: highest degree of the harmonics.

    Returns:
        unit vectors, float64, shape ((degree + 1)², 3), read-only.

    Source: Sommariva & Vianello, Comput. Math. Appl. 57 (2009) 1324, approximate Fekete points.
    """
    candidates = _spiral(_SPIRAL_POINTS * dim(degree))
    order = qr(harmonics_at(candidates, degree), mode="r", pivoting=True)[1]
    return _constant(candidates[order[: dim(degree)]])


def _spiral(count: int) -> Float[np.ndarray, "count 3"]:
    """Evenly spread points: heights in equal steps, turned by the golden angle."""
    step = np.arange(count) + 0.5
    heights, angles = 1 - 2 * step / count, pi * (3 - sqrt(5)) * step
    radii = np.sqrt(1 - heights**2)
    return np.stack([radii * np.sin(angles), heights, radii * np.cos(angles)], axis=1)


def harmonics_at(points: Float[np.ndarray, "P 3"], lmax: int) -> Float[np.ndarray, "d P"]:
    """Real harmonics of unit norm, ∫ Y² dΩ = 1, at points of the sphere.

    Args:
        points: unit vectors.
        lmax: highest degree.
    """
    return np.stack(spherical_harmonics(points, lmax)) / sqrt(4 * pi)


def surface_gradients_at(points: Float[np.ndarray, "P 3"], lmax: int) -> Float[np.ndarray, "3 d P"]:
    """Surface gradients of the harmonics of unit norm, in Cartesian components.

        ∇_S Y_l = ∇(r^l Y_l) − l r̂ Y_l  at r = 1

    The gradient of a harmonic polynomial is one of the degree below, hence the coupling C of that
    degree with a vector, up to a factor that Euler's theorem r·∇(r^l Y_l) = l r^l Y_l fixes:

        ∇(r^l Y_lm) = l √[(2l+1)/(2l−1)] / C_000 · Σ_m' C_im'm Y_{l−1 m'}

    Unlike derivatives with respect to angles this is regular at the poles.

    Args:
        points: unit vectors.
        lmax: highest degree.
    """
    harmonics = harmonics_at(points, lmax)
    result = np.zeros((3, dim(lmax), len(points)))
    for l in range(1, lmax + 1):
        coupling = clebsch_gordan(1, l - 1, l)
        factor = l * sqrt((2 * l + 1) / (2 * l - 1)) / coupling[1, l - 1, l]
        below = harmonics[degree_slice(l - 1)]
        gradient = factor * np.einsum("iab,ap->ibp", coupling, below)
        radial = np.einsum("pi,bp->ibp", points, l * harmonics[degree_slice(l)])
        result[:, degree_slice(l)] = gradient - radial
    return result


def _constant(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array, dtype=np.float64)
    array.setflags(write=False)
    return array
