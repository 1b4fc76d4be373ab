"""The vector-signal product: cross products of vector fields on the sphere."""

from __future__ import annotations

from functools import cache
from math import isqrt, pi
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import coupling_paths, dim
from mlip.settings import Settings
from mlip.tensor_products.gaunt_coefficients import squared_3j_at_zero
from mlip.tensor_products.layout import merge_copies
from mlip.tensor_products.poisson import GauntPoisson, tangent_derivatives
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.sphere import (
    SphereField,
    antipodal_half,
    split_rows,
)


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

    and G the Gaunt coefficients. Hence every even triple with l3 ≥ 1 is reached by at least one
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
        self.transform = self.bracket.transform
        self.reached_lmax = min(output_lmax, lmax1 + lmax2)
        antipodal_half(self.transform.degree)

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """Even: the scalar products, then up to two; odd: one for each degree that is reached."""
        check_paths(self, paths)
        if paths == "odd":
            return self.bracket.copies("odd")
        fields = (self.lmax1 > 0) + (self.lmax2 > 0)
        vectors = [fields * (l <= self.reached_lmax) for l in range(1, self.output_lmax + 1)]
        return (min(self.lmax1, self.lmax2) + 1, *vectors)

    def multiplies(self, paths: Paths = "even") -> int:
        """To the points, for gradients twice; the products there; and back for each copy."""
        copies = self.copies(paths)
        if paths == "odd":
            return self.bracket.multiplies("odd")
        to_points = 3 * sum(map(self.transform.multiplies, (self.lmax1, self.lmax2)))
        back = 2 * max(copies[1:], default=0) * self.transform.multiplies(self.reached_lmax)
        scalars = 2 * dim(min(self.lmax1, self.lmax2))
        return to_points + 8 * self.transform.num_points + back + scalars

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        if paths == "odd":
            return self.bracket(x, y, "odd")
        shape = (*x.shape[:-2], x.shape[-1])
        repeated = jnp.broadcast_to(y, (*y.shape[:-1], x.shape[-1]))
        first, second = (jnp.moveaxis(z, -2, 0).reshape(z.shape[-2], -1) for z in (x, repeated))
        parts = [_scalar_products(first, second), *self._vectors(first, second)]
        return [merge_copies(part.reshape(*part.shape[:2], *shape)) for part in parts]

    def _vectors(
        self, x: Float[Array, "d1 M"], y: Float[Array, "d2 M"]
    ) -> list[Float[Array, "copies m M"]]:
        """Degrees 1.. of X ∇Y and of Y ∇X, the gradient of a constant left out."""
        normalization = _normalization(self.lmax1, self.lmax2, self.reached_lmax).tolist()
        copies = [
            [factor * part for factor, part in zip(factors, self._readout(*pair), strict=True)]
            for factors, pair in zip(normalization, ((x, y), (y, x)), strict=True)
            if self.reached_lmax > 0 and pair[1].shape[0] > 1
        ]
        return [
            jnp.stack([parts[l] for parts in copies])
            if l <= self.reached_lmax
            else jnp.zeros((0, 2 * l + 1, x.shape[1]), x.dtype)
            for l in range(1, self.output_lmax + 1)
        ]

    def _readout(
        self, scalar: Float[Array, "d1 M"], vector: Float[Array, "d2 M"]
    ) -> list[Float[Array, "m M"]]:
        """∫ X ∇Y · ∇Y_lm dΩ of degrees 0..reached_lmax: the adjoint of taking a gradient."""
        degree = self.transform.degree
        even, odd = _times(self.transform.values(scalar), tangent_derivatives(vector, degree))
        weights = jnp.asarray(2 * antipodal_half(degree).weights, scalar.dtype)[:, None]
        result = jax.ShapeDtypeStruct((dim(self.reached_lmax), even.shape[-1]), even.dtype)
        adjoint = jax.linear_transpose(lambda z: tangent_derivatives(z, degree), result)
        return split_rows(*adjoint((weights[None] * even, weights[None] * odd)))


def _times(
    scalar: SphereField, vector: tuple[Float[Array, "2 half M"], Float[Array, "2 half M"]]
) -> tuple[Float[Array, "2 half M"], Float[Array, "2 half M"]]:
    """A function times a vector field, both in parts of even and of odd degrees."""
    even, odd = (scalar.even[None] * part for part in vector)
    if scalar.odd is None:
        return even, odd
    return even + scalar.odd[None] * vector[1], odd + scalar.odd[None] * vector[0]


def _scalar_products(
    x: Float[Array, "d1 M"], y: Float[Array, "d2 M"]
) -> Float[Array, "copies 1 M"]:
    """x_l · y_l / √(2l+1) for each degree that both have."""
    products = x[: y.shape[0]] * y[: x.shape[0]]
    degrees = np.arange(isqrt(len(products)))
    table = np.repeat(np.diag(1 / np.sqrt(2 * degrees + 1)), 2 * degrees + 1, axis=1)
    return (jnp.asarray(table, x.dtype) @ products)[:, None]


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
