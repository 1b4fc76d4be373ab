"""The vector-signal product: cross products of vector fields on the sphere."""

from __future__ import annotations

from functools import cache
from math import isqrt, pi, sqrt
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import coupling_paths, degree_slice, dim
from mlip.settings import Settings
from mlip.tensor_products.gaunt_coefficients import squared_3j_at_zero
from mlip.tensor_products.layout import merge_copies, split_degrees_first
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.quadrature import harmonics_at, lebedev, surface_gradients_at


class VectorSignalSettings(Settings):
    """Options of the vector-signal product: none."""

    name: Literal["vector_signal"] = "vector_signal"


_Degrees = tuple[int, int, int]


class VectorSignal(NodeProduct):
    """Features as vector fields on the sphere, multiplied by the cross product at each point.

    A feature of degree j and natural parity is a field of the vector harmonics Y_{j,l,m} with
    l = j ± 1. These are spanned by two fields, the radial r̂ Y_jm and the tangential ∇Y_jm, while
    r̂ × ∇Y_jm is the harmonic with l = j. With X = Σ x_jm Y_jm and Y = Σ y_jm Y_jm the cross
    products that do not vanish are

        r̂X × ∇Y   and   ∇X × r̂Y,    read out along r̂ × ∇Y_jm (l = j): even couplings,
        ∇X × ∇Y = r̂ {X, Y},         read out along r̂ Y_jm (l = j ± 1): odd couplings.

    The first two are kept apart, as two copies of each degree; there is one copy of each odd
    degree, since other readouts are multiples of it. Up to normalisation the coefficients are

        (λ2 + λ3 − λ1) G/2   and   (λ1 + λ3 − λ2) G/2   with λ_k = l_k (l_k + 1),

    G the integral of three harmonics, and the integral of Y_l3 {Y_l1, Y_l2}. Hence every even
    triple with l3 ≥ 1 is reached by at least one copy, and every odd triple inside the triangle.
    Degree 0 of the result has no vector harmonic with l = j: it is made of the scalar products
    x_l · y_l, one copy for each l. Each copy of a degree has unit variance for independent
    components of unit variance.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.

    Source: Xie et al., arXiv:2506.13523 (vector signal tensor product).
    """

    paths: tuple[Paths, ...] = ("even", "odd")

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self._degrees = (lmax1, lmax2, output_lmax)
        lebedev(_exactness(self._degrees, "even"))

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """Even: the scalar products, then up to two; odd: one for each degree that is reached."""
        check_paths(self, paths)
        counts = np.count_nonzero(_normalization(self._degrees, paths), axis=0).tolist()
        return (min(self.lmax1, self.lmax2) + 1, *counts[1:]) if paths == "even" else tuple(counts)

    def multiplies(self, paths: Paths = "even") -> int:
        """To the points, the products there, and back."""
        components = sum((2 * l + 1) * n for l, n in enumerate(self.copies(paths)) if l)
        points = len(lebedev(_exactness(self._degrees, paths)).weights)
        inputs = dim(self.lmax1) + dim(self.lmax2)
        if paths == "odd":
            return points * (2 * inputs + 2 + components)
        return points * (3 * inputs + 4 + 2 * components) + 2 * dim(min(self.lmax1, self.lmax2))

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        check_paths(self, paths)
        first, second = jnp.moveaxis(x, -2, 0), jnp.moveaxis(y, -2, 0)  # components lead
        return self._even(first, second) if paths == "even" else self._odd(first, second)

    def _even(
        self, x: Float[Array, "d1 *batch channels"], y: Float[Array, "d2 *batch channels"]
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Radial times tangential fields, read out along r̂ × ∇Y, and the scalar products."""
        exactness = _exactness(self._degrees, "even")
        fields = (
            _values(x, exactness) * _gradients(y, exactness),
            _gradients(x, exactness) * _values(y, exactness),
        )
        table = jnp.asarray(_even_readout(self._degrees), x.dtype)
        copies = [jnp.tensordot(table[n], field, 2) for n, field in enumerate(fields)]
        parts = [merge_copies(_scalar_products(x, y)[:, None])]
        present = _normalization(self._degrees, "even") > 0
        for l in range(1, self.output_lmax + 1):
            found = [z[degree_slice(l)] for n, z in enumerate(copies) if present[n, l]]
            empty = jnp.zeros((0, 2 * l + 1, *copies[0].shape[1:]), x.dtype)
            parts.append(merge_copies(jnp.stack(found) if found else empty))
        return parts

    def _odd(
        self, x: Float[Array, "d1 *batch channels"], y: Float[Array, "d2 *batch channels"]
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Tangential times tangential fields, read out along r̂ Y."""
        exactness = _exactness(self._degrees, "odd")
        first, second = _gradients(x, exactness), _gradients(y, exactness)
        bracket = first[0] * second[1] - first[1] * second[0]
        table = jnp.asarray(_odd_readout(self._degrees), x.dtype)
        return split_degrees_first(jnp.tensordot(table, bracket, 1), self.copies("odd"))


def _values(
    x: Float[Array, "d *batch channels"], exactness: int
) -> Float[Array, "1 P *batch channels"]:
    """The function at the points, with an axis beside the two of a gradient."""
    table = _fields(isqrt(x.shape[0]) - 1, exactness).values
    return jnp.tensordot(jnp.asarray(table, x.dtype), x, 1)[None]


def _gradients(
    x: Float[Array, "d *batch channels"], exactness: int
) -> Float[Array, "2 P *batch channels"]:
    """Both tangential components of the gradient at the points."""
    table = _fields(isqrt(x.shape[0]) - 1, exactness).gradients
    return jnp.tensordot(jnp.asarray(table, x.dtype), x, 1)


def _scalar_products(
    x: Float[Array, "d1 *batch channels"], y: Float[Array, "d2 *batch channels"]
) -> Float[Array, "degrees *batch channels"]:
    """x_l · y_l / √(2l+1) for each degree that both have."""
    size = min(x.shape[0], y.shape[0])
    table = np.zeros((isqrt(size), size))
    for l in range(isqrt(size)):
        table[l, degree_slice(l)] = 1 / sqrt(2 * l + 1)
    return jnp.tensordot(jnp.asarray(table, x.dtype), x[:size] * y[:size], 1)


class _Fields(NamedTuple):
    """Harmonics of unit norm, and the components of their gradients along two tangents."""

    values: Float[np.ndarray, "P d"]
    gradients: Float[np.ndarray, "2 P d"]


@cache
def _fields(lmax: int, exactness: int) -> _Fields:
    points = lebedev(exactness).points
    gradients = np.einsum("api,idp->apd", _tangents(points), surface_gradients_at(points, lmax))
    return _Fields(harmonics_at(points, lmax).T, gradients)


def _tangents(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "2 P 3"]:
    """Two orthonormal vectors with t_1 × t_2 = r̂ at each point."""
    axis = np.eye(3)[np.argmin(np.abs(points), axis=1)]  # far from parallel
    first = np.cross(axis, points)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(points, first)])


@cache
def _even_readout(degrees: _Degrees) -> Float[np.ndarray, "copies d3 2 P"]:
    """Normalised integrals of a tangential field against the gradients of harmonics."""
    exactness, normalization = _exactness(degrees, "even"), _normalization(degrees, "even")
    weighted = _fields(degrees[2], exactness).gradients * lebedev(exactness).weights[:, None]
    factors = np.repeat(normalization, 2 * np.arange(degrees[2] + 1) + 1, axis=1)
    return factors[..., None, None] * np.moveaxis(weighted, -1, 0)


@cache
def _odd_readout(degrees: _Degrees) -> Float[np.ndarray, "components P"]:
    """Normalised integrals of a function against the harmonics of the degrees reached."""
    exactness, normalization = _exactness(degrees, "odd"), _normalization(degrees, "odd")
    weighted = _fields(degrees[2], exactness).values.T * lebedev(exactness).weights
    factors = np.repeat(normalization[0], 2 * np.arange(degrees[2] + 1) + 1)
    return (factors[:, None] * weighted)[factors > 0]


def _exactness(degrees: _Degrees, paths: Paths) -> int:
    """Highest degree of the integrands; inversion makes those of odd degree vanish."""
    lmax1, lmax2, output_lmax = degrees
    highest = lmax1 + lmax2 + min(output_lmax, lmax1 + lmax2)
    return highest // 2 * 2 if paths == "even" else max((highest - 1) // 2 * 2, 0)


@cache
def _normalization(degrees: _Degrees, paths: Paths) -> Float[np.ndarray, "copies degrees"]:
    """One over the standard deviation of each copy and degree; zero where nothing is reached."""
    variances = np.zeros((2 if paths == "even" else 1, degrees[2] + 1))
    for l1, l2, l3 in coupling_paths(*degrees, "even" if paths == "even" else "odd"):
        if paths == "even":
            turns = [l * (l + 1) for l in (l1, l2, l3)]
            halves = (turns[1] + turns[2] - turns[0]) / 2, (turns[0] + turns[2] - turns[1]) / 2
            couplings = [half**2 * squared_3j_at_zero(l1, l2, l3) for half in halves]
        else:
            couplings = [_squared_bracket(l1, l2, l3)]
        scale = (2 * l1 + 1) * (2 * l2 + 1) / (4 * pi)
        variances[:, l3] += scale * np.array(couplings)
    reached = variances > 0
    return np.where(reached, 1 / np.sqrt(np.where(reached, variances, 1.0)), 0.0)


def _squared_bracket(l1: int, l2: int, l3: int) -> float:
    """Reduced square of ∫ Y_l3 {Y_l1, Y_l2} dΩ for an odd sum of degrees.

    (s+2)(s+4) / (4(s+3)) · (l1+l2−l3+1)(l1−l2+l3+1)(−l1+l2+l3+1) · (l1+1 l2+1 l3+1; 0 0 0)²
    """
    s = l1 + l2 + l3
    triangle = (s - 2 * l1 + 1) * (s - 2 * l2 + 1) * (s - 2 * l3 + 1)
    factor = (s + 2) * (s + 4) / (4 * (s + 3)) * triangle
    return factor * squared_3j_at_zero(l1 + 1, l2 + 1, l3 + 1)
