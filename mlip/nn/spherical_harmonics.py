"""Real spherical harmonics as polynomials of the unit vector."""

from __future__ import annotations

from math import factorial, sqrt

import numpy as np
from jaxtyping import Array, Float


def spherical_harmonics(
    unit: Float[Array | np.ndarray, "... 3"], lmax: int
) -> list[Float[Array, "..."]]:
    """Component-normalised real spherical harmonics of degrees 0..lmax.

    With polar axis y and azimuth from z to x,

        Y_l,±m = N_lm · d^m P_l/dy^m (y) · {Re, Im} (z + i x)^m,
        N_lm = √(2l+1) · √(2 (l−m)!/(l+m)!)   (without the factor 2 for m = 0),

    a polynomial of the vector, hence free of the singularity of angles at the poles.

    Args:
        unit: unit vectors, shape (..., 3); for a numpy array the result is one in its precision.
        lmax: highest degree.

    Returns:
        (lmax + 1)² arrays of shape (...), degrees in order, m from −l to l; the sum of the squares
        of one degree is 2l + 1.
    """
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    numpy = y.__array_namespace__()  # jax's or numpy's
    legendre = _legendre_derivatives(y, lmax)
    real, imaginary = [numpy.ones_like(y)], [numpy.zeros_like(y)]
    for _ in range(lmax):
        real_m, imaginary_m = real[-1], imaginary[-1]
        real.append(z * real_m - x * imaginary_m)
        imaginary.append(z * imaginary_m + x * real_m)
    components = []
    for degree in range(lmax + 1):
        for order in range(-degree, degree + 1):
            m = abs(order)
            azimuth = imaginary[m] if order < 0 else real[m]
            norm = sqrt((2 * degree + 1) * factorial(degree - m) / factorial(degree + m))
            norm *= sqrt(2.0) if m else 1.0
            components.append(norm * legendre[degree][m] * azimuth)
    return components


def _legendre_derivatives(
    y: Float[Array | np.ndarray, "..."], lmax: int
) -> list[list[Float[Array, "..."]]]:
    """`[l][m]` = d^m P_l/dy^m by the three-term recursion in l at fixed m."""
    numpy = y.__array_namespace__()
    table: list[list[Float[Array, "..."]]] = [[] for _ in range(lmax + 1)]
    for m in range(lmax + 1):
        double_factorial = 1.0
        for odd in range(1, 2 * m, 2):
            double_factorial *= odd
        below = numpy.zeros_like(y)
        current = numpy.full_like(y, double_factorial)
        for degree in range(m, lmax + 1):
            table[degree].append(current)
            following = ((2 * degree + 1) * y * current - (degree + m) * below) / (degree - m + 1)
            below, current = current, following
    return table
