"""Functions on the sphere: from components to values at points, and back.

Half of the points suffice. A symmetry of the sphere that exchanges the points in pairs, and turns
each harmonic into itself or its negative, splits a function into an even and an odd part. The
values of both at one point of each pair hold everything, and take half of the arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from math import isqrt
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mlip.nn.irreps import degree_slice, dim
from mlip.tensor_products.quadrature import Quadrature, gauss_legendre, harmonics_at, lebedev


class SphereField(NamedTuple):
    """Functions on the sphere, one for each atom and channel, at one point of each pair.

    Attributes:
        even: values of the part that the symmetry leaves as it is.
        odd: those of the part that changes its sign; `None` if there is none.
    """

    even: Float[Array, "half N channels"]
    odd: Float[Array, "half N channels"] | None

    def times(self, other: SphereField) -> SphereField:
        """The products of the functions; a single channel is repeated."""
        even = self.even * other.even
        if self.odd is None:
            return SphereField(even, None if other.odd is None else self.even * other.odd)
        if other.odd is None:
            return SphereField(even, self.odd * other.even)
        return SphereField(
            even + self.odd * other.odd, self.even * other.odd + self.odd * other.even
        )


class SphereTransform(ABC):
    """From harmonic components to values at points with exact quadrature, and back.

    Components lie on the first axis, so that both ways are plain matrix products.

    Args:
        degree: highest degree of the polynomials that are integrated exactly.
    """

    def __init__(self, degree: int) -> None:
        self.degree = degree

    @property
    @abstractmethod
    def num_points(self) -> int:
        """Points on the sphere, both of each pair."""

    @abstractmethod
    def multiplies(self, lmax: int) -> int:
        """Multiplications of either direction for one function of degrees 0..lmax."""

    @abstractmethod
    def values(self, x: Float[Array, "d N channels"]) -> SphereField:
        """Σ_lm x_lm Y_lm at the points, with harmonics of unit norm."""

    @abstractmethod
    def components(self, field: SphereField, lmax: int) -> list[Float[Array, "m N channels"]]:
        """∫ f Y_lm dΩ of degrees 0..lmax, one array for each."""


class LebedevTransform(SphereTransform):
    """Lebedev points and dense matrices; the symmetry is inversion.

    Args:
        degree: highest degree of the polynomials that are integrated exactly.
    """

    @property
    def num_points(self) -> int:
        """Points on the sphere."""
        return len(lebedev(self.degree).weights)

    def multiplies(self, lmax: int) -> int:
        """Each component is needed at half of the points."""
        return dim(lmax) * self.num_points // 2

    def values(self, x: Float[Array, "d N channels"]) -> SphereField:
        """Even and odd degrees; see `SphereTransform`."""
        degrees = split_rows(x)
        even, odd = lebedev_tables(self.degree, len(degrees) - 1)
        return SphereField(
            apply_rows(even.T, jnp.concatenate(degrees[::2])),
            apply_rows(odd.T, jnp.concatenate(degrees[1::2])) if degrees[1:] else None,
        )

    def components(self, field: SphereField, lmax: int) -> list[Float[Array, "m N channels"]]:
        """Even degrees from the even part, odd degrees from the odd; see `SphereTransform`."""
        weights = 2 * antipodal_half(self.degree).weights
        shape = field.even.shape[1:]
        result = [jnp.zeros((2 * l + 1, *shape), field.even.dtype) for l in range(lmax + 1)]
        for first, table in enumerate(lebedev_tables(self.degree, lmax)):
            part = field[first]
            if part is not None and first <= lmax:
                joint = apply_rows(table * weights, part)
                sizes = [2 * l + 1 for l in range(first, lmax + 1, 2)]
                result[first::2] = jnp.split(joint, np.cumsum(sizes)[:-1].tolist())
        return result


class GridTransform(SphereTransform):
    """Gauss–Legendre rings: from degrees to rings for each order m, then around the rings.

    The symmetry is the reflection x → −x, which turns azimuths to their negatives: orders m ≥ 0 are
    even and m < 0 are odd.

    Args:
        degree: highest degree of the polynomials that are integrated exactly.
    """

    @property
    def num_points(self) -> int:
        """Points on the sphere."""
        grid = gauss_legendre(self.degree)
        return len(grid.heights) * len(grid.azimuths)

    def multiplies(self, lmax: int) -> int:
        """Those of the two stages; degrees below the order are counted as they are computed."""
        grid = gauss_legendre(self.degree)
        rings = len(grid.heights) * (2 * lmax + 1)
        return rings * (lmax + 1) + rings * len(grid.azimuths) // 2

    def values(self, x: Float[Array, "d N channels"]) -> SphereField:
        """Cosines and sines of the azimuth; see `SphereTransform`."""
        parts = split_rows(x)
        lmax = len(parts) - 1
        tables = grid_tables(self.degree, lmax)
        halves = [jnp.split(part, [l]) for l, part in enumerate(parts)]
        cosines = [_pad_rows(part, 0, lmax - l) for l, (_, part) in enumerate(halves)]
        even = _to_rings(tables.legendre, tables.cosine, cosines)
        if lmax == 0:
            return SphereField(even, None)
        sines = [_pad_rows(part, lmax - l, 0) for l, (part, _) in enumerate(halves)]
        return SphereField(even, _to_rings(tables.legendre[:0:-1], tables.sine, sines))

    def components(self, field: SphereField, lmax: int) -> list[Float[Array, "m N channels"]]:
        """The same stages backwards; see `SphereTransform`."""
        tables = grid_tables(self.degree, lmax)
        analysis = tables.legendre * (2 * gauss_legendre(self.degree).ring_weights[:, None])
        cosines = _from_rings(analysis, tables.cosine, field.even)
        even = [jnp.split(part, [l + 1])[0] for l, part in enumerate(cosines)]
        if field.odd is None or lmax == 0:
            return [_pad_rows(part, l, 0) for l, part in enumerate(even)]
        sines = _from_rings(analysis[:0:-1], tables.sine, field.odd)
        odd = [jnp.split(part, [lmax - l])[1] for l, part in enumerate(sines)]
        return [jnp.concatenate(pair) for pair in zip(odd, even, strict=True)]


class _GridTables(NamedTuple):
    """Y_lm = legendre · (cosine or sine); orders m of the sine run from −lmax to −1."""

    legendre: Float[np.ndarray, "m rings l"]
    cosine: Float[np.ndarray, "m half"]
    sine: Float[np.ndarray, "m half"]


@cache
def grid_tables(degree: int, lmax: int) -> _GridTables:
    """Values of the two factors of each harmonic on the rings and on half of the azimuths."""
    grid = gauss_legendre(degree)
    y = grid.heights
    meridian = np.stack([np.zeros_like(y), y, np.sqrt(1 - y**2)], axis=-1)
    harmonics = harmonics_at(meridian, lmax)
    legendre = np.zeros((lmax + 1, len(y), lmax + 1))
    for l in range(lmax + 1):
        legendre[: l + 1, :, l] = harmonics[degree_slice(l)][l:]
    angles = np.outer(np.arange(lmax + 1), grid.azimuths[: len(grid.azimuths) // 2])
    return _GridTables(legendre, np.cos(angles), np.sin(angles)[:0:-1])


@cache
def antipodal_half(degree: int) -> Quadrature:
    """One point of each pair of opposite Lebedev points."""
    points, weights = lebedev(degree)
    signs = np.sign(np.round(points, 9)) @ np.array([4, 2, 1])
    return Quadrature(points[signs > 0], weights[signs > 0])


@cache
def lebedev_tables(degree: int, lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics of even and of odd degrees at half of the points, shapes (components, half)."""
    harmonics = harmonics_at(antipodal_half(degree).points, lmax)
    odd = degree_parity(lmax) == 1
    return harmonics[~odd], harmonics[odd]


def degree_parity(lmax: int) -> Int[np.ndarray, "d"]:
    """Zero for components of even degrees, one for those of odd degrees."""
    degrees = np.arange(lmax + 1)
    return np.repeat(degrees % 2, 2 * degrees + 1)


def apply_rows(
    matrix: Float[np.ndarray, "k d"], x: Float[Array, "d *rest"]
) -> Float[Array, "k *rest"]:
    """Multiply the rows of `x` by a constant matrix, as one GEMM."""
    flat = jnp.asarray(matrix, x.dtype) @ x.reshape(x.shape[0], -1)
    return flat.reshape(-1, *x.shape[1:])


def split_rows(x: Float[Array, "d N channels"]) -> list[Float[Array, "m N channels"]]:
    """One array per degree."""
    lmax = isqrt(x.shape[0]) - 1
    return jnp.split(x, [dim(l) for l in range(lmax)])


def _pad_rows(x: Array, before: int, after: int) -> Array:
    return jnp.pad(x, ((before, after), (0, 0), (0, 0)))


def _to_rings(
    legendre: Float[np.ndarray, "m rings l"],
    around: Float[np.ndarray, "m half"],
    degrees: list[Float[Array, "m N channels"]],
) -> Float[Array, "half_rings N channels"]:
    """Values from components that are padded to the same orders in every degree."""
    joint = jnp.stack(degrees, axis=1).reshape(*legendre.shape[::2], -1)
    rings = jnp.asarray(legendre, joint.dtype) @ joint
    # A single axis for all points: the compiler's loops over many short axes are slow.
    return apply_rows(around.T, rings).reshape(-1, *degrees[0].shape[1:])


def _from_rings(
    legendre: Float[np.ndarray, "m rings l"],
    around: Float[np.ndarray, "m half"],
    values: Float[Array, "half_rings N channels"],
) -> list[Float[Array, "m N channels"]]:
    """Components, padded likewise, from values."""
    orders, rings, degrees = legendre.shape
    by_order = apply_rows(around, values.reshape(around.shape[1], -1)).reshape(orders, rings, -1)
    joint = jnp.asarray(legendre.transpose(0, 2, 1), values.dtype) @ by_order
    parts = jnp.split(joint, degrees, axis=1)
    return [part.reshape(orders, *values.shape[1:]) for part in parts]
