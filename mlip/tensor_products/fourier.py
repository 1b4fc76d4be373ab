"""Spherical harmonics as Fourier series in both angles: analytic coefficients, without quadrature.

The polar angle θ is measured from y and the azimuth φ from z to x, so that
Y_l,±m = f_lm(θ) {cos, sin} mφ with f_lm = N_lm sin^m θ · d^m P_l/dy^m (cos θ). Continued to all θ,
f_lm is even for even m and odd for odd m. With ι_m = 1 for even and 1/i for odd m,

    f_lm(θ) = Σ_u s^lm_u ι_m e^{iuθ},   u = −l..l,   s real, s_−u = (−1)^m s_u.
"""

from __future__ import annotations

from functools import cache
from math import comb, factorial, sqrt

import numpy as np
from jaxtyping import Float


@cache
def polar_series(lmax: int) -> Float[np.ndarray, "m l u"]:
    """The coefficients s^lm_u of component-normalised harmonics.

    The recursion of the Legendre polynomials in l runs on the series, where cos θ is the mean of
    a shift to either side; it starts at sin^m θ, whose coefficients are binomial.

    Args:
        lmax: highest degree L.

    Returns:
        float64, shape (L + 1, L + 1, 2 L + 1), read-only: m and l from 0, u from −L; zero for
        l < m.
    """
    series = np.zeros((lmax + 1, lmax + 1, 2 * lmax + 1))
    for m in range(lmax + 1):
        current = np.zeros(2 * lmax + 1)
        double_factorial = factorial(2 * m) // (2**m * factorial(m))
        for k in range(m + 1):
            current[lmax + m - 2 * k] = (-1) ** (m // 2 + k) * comb(m, k) * double_factorial / 2**m
        below = np.zeros_like(current)
        for l in range(m, lmax + 1):
            factor = (1 if m == 0 else 2) * (2 * l + 1) * factorial(l - m) / factorial(l + m)
            series[m, l] = sqrt(factor) * current
            times_cosine = 0.5 * (np.roll(current, 1) + np.roll(current, -1))
            following = ((2 * l + 1) * times_cosine - (l + m) * below) / (l - m + 1)
            below, current = current, following
    series.setflags(write=False)
    return series


@cache
def polar_integrals(lmax: int, highest: int) -> Float[np.ndarray, "m l u"]:
    """The projections ∫_0^π {cos, sin}(uθ) f_lm(θ) sin θ dθ, with the cosine for even m.

    They are Σ_u' s^lm_u' J(u − u') with J(k) = ∫_0^π cos(kθ) sin θ dθ = 2/(1 − k²) for even k and
    0 for odd k; other terms cancel between u' and −u'.

    Args:
        lmax: highest degree L of the harmonics.
        highest: highest |u|, called U.

    Returns:
        float64, shape (L + 1, L + 1, 2 U + 1), read-only: m and l from 0, u from −U.
    """
    difference = np.arange(-highest, highest + 1) - np.arange(-lmax, lmax + 1)[:, None]
    even = difference % 2 == 0
    weights = np.where(even, 2.0 / np.where(even, 1 - difference**2, 1), 0.0)
    integrals = polar_series(lmax) @ weights
    integrals.setflags(write=False)
    return integrals


@cache
def azimuthal_products(
    highest1: int, highest2: int, highest3: int
) -> Float[np.ndarray, "m1 m2 m3"]:
    """Coefficients of products t_m1 t_m2 = Σ_m3 q t_m3, with t_m = cos mφ and t_−m = sin mφ.

    Args:
        highest1: highest |m1|.
        highest2: highest |m2|.
        highest3: highest |m3|; higher ones are left out.

    Returns:
        float64, shape (2 highest1 + 1, 2 highest2 + 1, 2 highest3 + 1), read-only.
    """
    products = np.zeros((2 * highest1 + 1, 2 * highest2 + 1, 2 * highest3 + 1))
    for m1 in range(-highest1, highest1 + 1):
        for m2 in range(-highest2, highest2 + 1):
            a, b = abs(m1), abs(m2)
            sines = (m1 < 0) + (m2 < 0)
            # The sum and the difference of the angles; a sine of |m1| − |m2| turns with its sign.
            sign_of_difference = 1 if sines != 1 or (m1 < 0) == (a > b) else -1
            for order, factor in (
                (a + b, -0.5 if sines == 2 else 0.5),
                (abs(a - b), 0.5 * sign_of_difference),
            ):
                m3 = -order if sines == 1 else order
                if order <= highest3 and not (sines == 1 and order == 0):
                    products[m1 + highest1, m2 + highest2, m3 + highest3] += factor
    products.setflags(write=False)
    return products
