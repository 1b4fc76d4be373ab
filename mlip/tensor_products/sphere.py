"""Functions on the sphere: from harmonic components to values at points, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from math import isqrt
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import degree_slice, dim
from mlip.tensor_products.quadrature import gauss_legendre, harmonics_at, sphere_rule


class SphereTransform(ABC):
    """From harmonic components to values at points, and from products of such values back.

    Components and points lie on the first axis, so that both ways are plain matrix products.

    Args:
        degree: highest degree of the functions that components are taken of.
        output_lmax: highest degree of these components.
    """

    def __init__(self, degree: int, output_lmax: int) -> None:
        self.degree, self.output_lmax = degree, output_lmax

    @property
    @abstractmethod
    def num_points(self) -> int:
        """Points on the sphere."""

    @abstractmethod
    def multiplies(self, lmax: int) -> int:
        """Multiplications of either direction for one function of degrees 0..lmax."""

    @abstractmethod
    def values(self, x: Float[Array, "d N channels"]) -> Float[Array, "P N channels"]:
        """Σ_lm x_lm Y_lm at the points, with harmonics of unit norm."""

    @abstractmethod
    def components(
        self, values: Float[Array, "P N channels"], factors: Sequence[float]
    ) -> Float[Array, "d N channels"]:
        """∫ f Y_lm dΩ of degrees 0..output_lmax, times a factor for each degree."""


class PointTransform(SphereTransform):
    """As few points as possible, and dense matrices; see `sphere_rule`.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.
    """

    def __init__(self, degree: int, output_lmax: int) -> None:
        super().__init__(degree, output_lmax)
        self._rule = sphere_rule(degree, output_lmax)

    @property
    def num_points(self) -> int:
        """Points on the sphere."""
        return len(self._rule.points)

    def multiplies(self, lmax: int) -> int:
        """Each component is needed at each point."""
        return dim(lmax) * self.num_points

    def values(self, x: Float[Array, "d N channels"]) -> Float[Array, "P N channels"]:
        """One matrix product; see `SphereTransform`."""
        return apply_rows(harmonics_at(self._rule.points, isqrt(x.shape[0]) - 1).T, x)

    def components(
        self, values: Float[Array, "P N channels"], factors: Sequence[float]
    ) -> Float[Array, "d N channels"]:
        """One matrix product; see `SphereTransform`."""
        return apply_rows((self._rule.analysis * repeat_degrees(factors)).T, values)


class GridTransform(SphereTransform):
    """Gauss–Legendre rings: from degrees to rings for each order m, then around the rings."""

    @property
    def num_points(self) -> int:
        """Points on the sphere."""
        grid = gauss_legendre(self.degree + self.output_lmax)
        return len(grid.heights) * len(grid.azimuths)

    def multiplies(self, lmax: int) -> int:
        """Those of the two stages; degrees below the order are counted as they are computed."""
        grid = gauss_legendre(self.degree + self.output_lmax)
        return len(grid.heights) * (2 * lmax + 1) * (lmax + 1 + len(grid.azimuths))

    def values(self, x: Float[Array, "d N channels"]) -> Float[Array, "P N channels"]:
        """Sums over the degrees, then over the orders; see `SphereTransform`."""
        tables = grid_tables(self.degree + self.output_lmax, isqrt(x.shape[0]) - 1)
        joint = _orders_and_degrees(x)
        rings = jnp.asarray(tables.legendre, x.dtype) @ joint.reshape(*joint.shape[:2], -1)
        # A single axis for all points: the compiler's loops over many short axes are slow.
        return apply_rows(tables.around.T, rings).reshape(-1, *x.shape[1:])

    def values_by_degree(self, x: Float[Array, "d N"]) -> Float[Array, "P N degrees"]:
        """Σ_m x_lm Y_lm at the points for each degree l, with harmonics of unit norm."""
        tables = grid_tables(self.degree + self.output_lmax, isqrt(x.shape[0]) - 1)
        joint = jnp.swapaxes(_orders_and_degrees(x), 1, 2)  # (m, N, l)
        rings = jnp.asarray(tables.legendre, x.dtype)[:, :, None] * joint[:, None]
        return apply_rows(tables.around.T, rings).reshape(-1, *joint.shape[1:])

    def components(
        self, values: Float[Array, "P N channels"], factors: Sequence[float]
    ) -> Float[Array, "d N channels"]:
        """The same stages backwards, with the weights of the rings; see `SphereTransform`."""
        lmax, degree = self.output_lmax, self.degree + self.output_lmax
        tables = grid_tables(degree, lmax)
        weighted = tables.legendre * gauss_legendre(degree).ring_weights[:, None]
        analysis = (weighted * np.asarray(factors)).transpose(0, 2, 1)
        rings = apply_rows(tables.around, values.reshape(tables.around.shape[1], -1))
        joint = jnp.asarray(analysis, values.dtype) @ rings.reshape(*analysis.shape[::2], -1)
        parts = jnp.split(joint, lmax + 1, axis=1)
        kept = [part[lmax - l : lmax + l + 1] for l, part in enumerate(parts)]
        return jnp.concatenate(kept).reshape(-1, *values.shape[1:])


class _GridTables(NamedTuple):
    """Y_lm = legendre · around, for orders m from −lmax: sines of |m|φ, then cosines."""

    legendre: Float[np.ndarray, "m rings l"]
    around: Float[np.ndarray, "m azimuths"]


@cache
def grid_tables(degree: int, lmax: int) -> _GridTables:
    """Values of the two factors of each harmonic on the rings and on the azimuths."""
    grid = gauss_legendre(degree)
    y = grid.heights
    meridian = np.stack([np.zeros_like(y), y, np.sqrt(1 - y**2)], axis=-1)
    harmonics = harmonics_at(meridian, lmax)
    legendre = np.zeros((lmax + 1, len(y), lmax + 1))
    for l in range(lmax + 1):
        legendre[: l + 1, :, l] = harmonics[degree_slice(l)][l:]
    angles = np.outer(np.arange(lmax + 1), grid.azimuths)
    around = np.concatenate([np.sin(angles)[:0:-1], np.cos(angles)])
    return _GridTables(np.concatenate([legendre[:0:-1], legendre]), around)


def components_first(x: Float[Array, "*batch d channels"]) -> Float[Array, "d N channels"]:
    """All of the batch on one axis, components before it."""
    return jnp.swapaxes(x.reshape(-1, *x.shape[-2:]), 0, 1)


def apply_rows(
    matrix: Float[np.ndarray, "k d"], x: Float[Array, "d *rest"]
) -> Float[Array, "k *rest"]:
    """Multiply the rows of `x` by a constant matrix, as one GEMM."""
    flat = jnp.asarray(matrix, x.dtype) @ x.reshape(x.shape[0], -1)
    return flat.reshape(-1, *x.shape[1:])


def repeat_degrees(
    factors: Sequence[float] | Float[np.ndarray, "degrees"],
) -> Float[np.ndarray, "d"]:
    """One number for each degree, repeated for its components."""
    return np.repeat(np.asarray(factors), 2 * np.arange(len(factors)) + 1)


def _orders_and_degrees(x: Float[Array, "d *rest"]) -> Float[Array, "m l *rest"]:
    """Components by order m from −lmax and degree, zero where |m| > l."""
    lmax = isqrt(x.shape[0]) - 1
    by_degree = jnp.split(x, [dim(l) for l in range(lmax)])
    rest = ((0, 0),) * (x.ndim - 1)
    padded = [jnp.pad(part, ((lmax - l,) * 2, *rest)) for l, part in enumerate(by_degree)]
    return jnp.stack(padded, axis=1)
