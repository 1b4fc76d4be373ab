"""Rotations that take edges to the polar axis, as matrices on features, without angles."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import clebsch_gordan


def edge_frame(
    direction: Float[Array, "*batch 3"], lmax: int, mmax: int
) -> list[Float[Array, "*batch rows m"]]:
    """Matrices D_l of a rotation R with R r̂ = ŷ, restricted to the rows |m| ≤ mmax.

    For y ≥ 0, R is the half turn about the bisector of r̂ and ŷ,

        R = h hᵀ / (1 + y) − 1,   h = r̂ + ŷ;

    for y < 0 a half turn about x comes first, so that 1 + y ≥ 1 everywhere. D_1 is R, and the rows
    of higher degrees follow from couplings with degree 1, in which one order m remains,

        D_l[m] = (D_1[0] ⊗ D_{l−1}[m]) C / C[0, m, m]   for |m| < l,
        D_l[l] + i D_l[−l] ∝ ((D_1[1] + i D_1[−1]) ⊗ (D_{l−1}[l−1] + i D_{l−1}[1−l])) C,

    with C the Clebsch–Gordan coefficients (1, l − 1, l): one matrix product for each degree.

    R is one choice out of many, which differ by a turn about ŷ, and it jumps where y changes sign.
    What commutes with turns about ŷ between D and Dᵀ does not feel the choice: such a layer is
    smooth in all directions, poles included, and automatic derivatives of any order are right.

    Args:
        direction: unit vectors, shape (..., 3).
        lmax: highest degree.
        mmax: highest order |m| of the rows.

    Returns:
        for each degree l an array (..., 2k + 1, 2l + 1) with k = min(l, mmax): orthonormal rows
        m = 0, 1, −1, 2, −2, …, ±k, the first being Y_l(r̂) / √(2l + 1); columns m = −l..l.

    Source: the frame as in Passaro and Zitnick, ICML 2023, section 3; the recursion is the
        intertwining relation (D_1 ⊗ D_{l−1}) C = C D_l, row by row.
    """
    first = direction[..., None, :] if mmax == 0 else _rotation(direction)
    frame = [jnp.ones_like(direction[..., :1, None]), first]
    for degree in range(2, lmax + 1):
        frame.append(_next_degree(first, frame[-1], degree, min(degree, mmax)))
    return frame[: lmax + 1]


def row_orders(mmax: int) -> list[int]:
    """Orders m of the rows of an edge frame: 0, 1, −1, 2, −2, …, ±mmax."""
    return sorted(range(-mmax, mmax + 1), key=lambda m: (abs(m), -m))


def _rotation(direction: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """D_1: the rows y, z and x of R."""
    one = jnp.ones_like(direction)
    half_turn = _like(direction, [1.0, -1.0, -1.0])
    turn = jnp.where(direction[..., 1:2] < 0, half_turn * one, one)
    sum_of_axes = direction * turn + _like(direction, [0.0, 1.0, 0.0])
    z, x = (
        (sum_of_axes[..., [axis]] / sum_of_axes[..., 1:2] * sum_of_axes - _like(direction, unit))
        for axis, unit in ((2, [0.0, 0.0, 1.0]), (0, [1.0, 0.0, 0.0]))
    )
    return jnp.stack([direction, z * turn, x * turn], axis=-2)


def _like(x: Float[Array, "*batch 3"], vector: list[float]) -> Float[Array, "*ones 3"]:
    """A constant vector with the number of axes of `x`."""
    return jnp.asarray(vector, x.dtype).reshape((1,) * (x.ndim - 1) + (3,))


def _next_degree(
    first: Float[Array, "*batch rows_1 3"],
    below: Float[Array, "*batch rows_below m_below"],
    degree: int,
    mmax: int,
) -> Float[Array, "*batch rows m"]:
    """D_l from D_1 and D_{l−1}."""
    pairs = first[..., :1, :, None] * below[..., :, None, :]  # (..., rows, 3, 2l − 1)
    if mmax == degree:
        z, x = first[..., 1:2, :, None], first[..., 2:3, :, None]
        cosine, sine = below[..., -2:-1, None, :], below[..., -1:, None, :]
        pairs = jnp.concatenate([pairs, z * cosine - x * sine, z * sine + x * cosine], axis=-3)
    coupling, scale = _coupling(degree, mmax)
    rows = pairs.reshape(-1, coupling.shape[0]) @ jnp.asarray(coupling, first.dtype)
    scaled = rows.reshape(-1, *scale.shape) * jnp.asarray(scale, first.dtype)[None]
    return scaled.reshape(*pairs.shape[:-2], 2 * degree + 1)


@cache
def _coupling(degree: int, mmax: int) -> tuple[np.ndarray, np.ndarray]:
    """C(1, l − 1, l) with rows (m1, m2), and the factor of each row, for all its columns."""
    coupling = clebsch_gordan(1, degree - 1, degree)
    factors = []
    for m in row_orders(mmax):
        if abs(m) < degree:
            factors.append(1 / coupling[1, degree - 1 + m, degree + m])
        else:
            factors.append(1 / (coupling[2, -1, -1] - coupling[0, 0, -1]))
    scale = np.repeat(np.array(factors)[:, None], 2 * degree + 1, axis=1)
    return coupling.reshape(-1, 2 * degree + 1), scale
