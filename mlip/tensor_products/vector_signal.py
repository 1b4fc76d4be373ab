"""The vector-signal product: cross products of vector fields on the sphere."""

from __future__ import annotations

from functools import cache
from math import isqrt, pi
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import coupling_paths, dim
from mlip.settings import Settings
from mlip.tensor_products.gaunt_coefficients import squared_3j_at_zero
from mlip.tensor_products.layout import merge_copies
from mlip.tensor_products.pointwise import PointwiseMatrices
from mlip.tensor_products.poisson import GauntPoisson
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.quadrature import harmonics_at, sphere_rule
from mlip.tensor_products.sphere import apply_rows, components_first, repeat_degrees


class VectorSignalSettings(Settings):
    """Options of the vector-signal product: none."""

    name: Literal["vector_signal"] = "vector_signal"


class VectorSignal(NodeProduct):
    """Features as vector fields on the sphere, multiplied by the cross product at each point.

    A feature of degree j and natural parity is a field of the vector harmonics Y_{j,l,m} with
    l = j ± 1. These are spanned by two fields, the radial r̂ Y_jm and the tangential ∇Y_jm, while
    r̂ × ∇Y_jm is the harmonic with l = j. With X = Σ x_jm Y_jm and Y = Σ y_jm Y_jm the cross
    products that do not vanish are

        r̂X × ∇Y   and   ∇X × r̂Y,    read out along r̂ × ∇Y_jm (l = j): even couplings,
        ∇X × ∇Y = r̂ {X, Y},         read out along r̂ Y_jm (l = j ± 1): odd couplings.

    The first two are kept apart, as two copies of each degree; there is one copy of each odd
    degree, since other readouts are multiples of it: the bracket of `GauntPoisson`. Up to
    normalisation the even coefficients are

        (λ2 + λ3 − λ1) G/2   and   (λ1 + λ3 − λ2) G/2   with λ_k = l_k (l_k + 1)

    and G the Gaunt coefficients. Since λ is an eigenvalue of −Δ, they are formed without gradients,
    from the functions X Y and X ΔY − Y ΔX. Every even triple with l3 ≥ 1 is reached by at least one
    copy, and every odd triple inside the triangle. Degree 0 of the result has no vector harmonic
    with l = j: it is made of the scalar products x_l · y_l, one copy for each l. Each copy of a
    degree has unit variance for independent components of unit variance.

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
        self.bracket = GauntPoisson(lmax1, lmax2, output_lmax)

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """Even: the scalar products, then up to two; odd: one for each degree that is reached."""
        check_paths(self, paths)
        if paths == "odd":
            return self.bracket.copies("odd")
        fields = (self.lmax1 > 0) + (self.lmax2 > 0)
        return (min(self.lmax1, self.lmax2) + 1, *[fields] * self.output_lmax)

    def multiplies(self, paths: Paths = "even") -> int:
        """Those of both functions, of their sums, and of the scalar products."""
        copies = self.copies(paths)
        if paths == "odd":
            return self.bracket.multiplies("odd")
        halves = _matrices(self.lmax1, self.lmax2, self.output_lmax)
        sums = max(copies[1:], default=0) * dim(self.output_lmax)
        scalars = 2 * dim(min(self.lmax1, self.lmax2))
        return sum(half.multiplies() for half in halves) + sums + scalars

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        if paths == "odd":
            return self.bracket(x, y, "odd")
        return [_scalar_products(x, y), *self._vectors(x, y)]

    def _vectors(
        self, x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"]
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Degrees 1.. of r̂X × ∇Y and of ∇X × r̂Y, the gradient of a constant left out."""
        first, second = _normalization(self.lmax1, self.lmax2, self.output_lmax).tolist()
        sums, differences = (
            half.multiply(x, y) for half in _matrices(self.lmax1, self.lmax2, self.output_lmax)
        )
        result = []
        for l in range(1, self.output_lmax + 1):
            copies = []
            if self.lmax2 > 0:
                copies.append(first[l] * (sums[l] + differences[l]))
            if self.lmax1 > 0:
                copies.append(second[l] * (sums[l] - differences[l]))
            result.append(jnp.concatenate(copies, axis=-1))
        return result


@cache
def _matrices(
    lmax1: int, lmax2: int, output_lmax: int
) -> tuple[PointwiseMatrices, PointwiseMatrices]:
    """The constants of λ3/2 X Y and of (X λ2Y − Y λ1X)/2, whose sum and difference are wanted."""
    points, analysis = sphere_rule(lmax1 + lmax2, output_lmax)
    first, second = (harmonics_at(points, lmax) for lmax in (lmax1, lmax2))
    turned1, turned2 = (_eigenvalues(l)[:, None] * h for l, h in ((lmax1, first), (lmax2, second)))
    return PointwiseMatrices(first, second, analysis * _eigenvalues(output_lmax) / 2), (
        PointwiseMatrices(
            np.concatenate([first, turned1], axis=1),
            np.concatenate([turned2, -second], axis=1),
            analysis / 2,
        )
    )


def _eigenvalues(lmax: int) -> Float[np.ndarray, "d"]:
    """λ = l (l + 1) of each component."""
    degrees = np.arange(lmax + 1)
    return repeat_degrees(degrees * (degrees + 1.0))


def _scalar_products(
    x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"]
) -> Float[Array, "*batch 1 copies_channels"]:
    """x_l · y_l / √(2l+1) for each degree that both have."""
    shared = min(x.shape[-2], y.shape[-2])
    products = components_first(x[..., :shared, :] * y[..., :shared, :])
    degrees = np.arange(isqrt(shared))
    table = np.repeat(np.diag(1 / np.sqrt(2 * degrees + 1)), 2 * degrees + 1, axis=1)
    joint = merge_copies(apply_rows(table, products)[:, None])
    return joint.reshape(*x.shape[:-2], 1, -1)


@cache
def _normalization(lmax1: int, lmax2: int, output_lmax: int) -> Float[np.ndarray, "2 degrees"]:
    """One over the standard deviation of each copy and degree; zero where nothing is reached.

    The variance adds ((λ2 + λ3 − λ1)/2)² (2 l1+1)(2 l2+1)/4π (l1 l2 l3; 0 0 0)² for each coupling,
    and in the second copy the same with the factors exchanged.
    """
    variances = np.zeros((2, output_lmax + 1))
    for l1, l2, l3 in coupling_paths(lmax1, lmax2, output_lmax):
        difference, last = l2 * (l2 + 1) - l1 * (l1 + 1), l3 * (l3 + 1)
        gaunt = (2 * l1 + 1) * (2 * l2 + 1) / (4 * pi) * squared_3j_at_zero(l1, l2, l3)
        variances[0, l3] += ((last + difference) / 2) ** 2 * gaunt
        variances[1, l3] += ((last - difference) / 2) ** 2 * gaunt
    reached = variances > 0
    factors = np.where(reached, 1 / np.sqrt(np.where(reached, variances, 1.0)), 0.0)
    factors.setflags(write=False)
    return factors
