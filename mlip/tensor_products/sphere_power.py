"""Many-body products on the sphere: powers of a feature taken at points."""

from __future__ import annotations

from functools import cache
from math import pi

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mlip.nn.linear import EquivariantLinear, split_degrees
from mlip.nn.powers import check_feature, check_power
from mlip.tensor_products.power import ElementWeights
from mlip.tensor_products.sphere import SphereTransform, components_first


class SpherePower(nnx.Module):
    """Σ_ν w^ν_z ∫ A(r̂) A₂(r̂) … A_ν(r̂) Y_lm(r̂) dΩ, with equivariant linear images A_k of A.

    All factors are evaluated once, at points that are exact for the highest order; the products of
    each order are taken there, and only degrees up to hidden_lmax of them are computed. That the
    factors differ makes up for the fixed coefficients of a product of functions: with A alone in
    all places, order ν would have a single weight for each degree.

    Each order and degree has a factor of its own, which would give components of unit variance if
    the factors were independent with components of unit variance (`power_normalization`).

    Args:
        transform_type: the points.
        lmax: highest degree of A.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors ν.
        num_elements: number of elements Z.
        channels: channels of A and of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Raises:
        MlipError: for a correlation that is not 1 to 4, a degree above lmax, or degrees for which
            there are no points.

    Source: Luo et al., ICLR 2024, section 3.3, for powers of one function.
    """

    def __init__(
        self,
        transform_type: type[SphereTransform],
        lmax: int,
        hidden_lmax: int,
        correlation: int,
        num_elements: int,
        channels: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        self.transform = self.points(transform_type, lmax, hidden_lmax, correlation)
        self.lmax, self.channels = lmax, channels
        self.normalizations = tuple(
            tuple(power_normalization(lmax, order, hidden_lmax).tolist())
            for order in range(2, correlation + 1)
        )
        self.factors = nnx.List(
            [
                EquivariantLinear([channels] * (lmax + 1), channels, rngs=rngs, dtype=dtype)
                for _ in self.normalizations
            ]
        )
        self.outputs = nnx.List(
            [
                ElementWeights(num_elements, hidden_lmax, channels, rngs=rngs, dtype=dtype)
                for _ in range(correlation)
            ]
        )

    @staticmethod
    def points(
        transform_type: type[SphereTransform], lmax: int, hidden_lmax: int, correlation: int
    ) -> SphereTransform:
        """Points that are exact for all factors and the degrees of the result."""
        check_power(lmax, hidden_lmax, correlation)
        return transform_type(correlation * lmax, hidden_lmax)

    def __call__(
        self, features: Float[Array, "N d channels"], species: Int[Array, "N"]
    ) -> Float[Array, "N d_out channels"]:
        """Powers of A of shape (N, (lmax+1)², channels) up to degree hidden_lmax.

        Raises:
            MlipError: for a feature of another shape.
        """
        check_feature(features, self.lmax, self.channels)
        total = self.outputs[0](features, species)
        if not self.normalizations:
            return total
        degrees = split_degrees(features)
        power = self.transform.values(components_first(features))
        for factor, output, normalization in zip(
            self.factors, self.outputs[1:], self.normalizations, strict=True
        ):
            power = power * self.transform.values(components_first(factor(degrees)))
            components = self.transform.components(power, normalization)
            total = total + output(jnp.swapaxes(components, 0, 1), species)
        return total


@cache
def power_normalization(lmax: int, order: int, output_lmax: int) -> Float[np.ndarray, "degrees"]:
    """Factor of each degree of a product of functions that gives its components unit variance.

        n_l⁻² = 2π ∫ K(t)^ν P_l(t) dt,   K(t) = Σ_{l ≤ lmax} (2l+1)/4π P_l(t)

    K is the covariance of the values at two points with t = cos ϑ between them, for a function with
    independent components of unit variance; that of a product of independent functions is the
    product of theirs.

    Args:
        lmax: highest degree of each function.
        order: number of functions ν.
        output_lmax: highest degree of the result, at most ν · lmax.

    Returns:
        float64, shape (output_lmax + 1,), read-only.
    """
    t, weights = np.polynomial.legendre.leggauss((order * lmax + output_lmax) // 2 + 1)
    legendre = np.polynomial.legendre.legvander(t, max(lmax, output_lmax))
    covariance = legendre[:, : lmax + 1] @ (2 * np.arange(lmax + 1) + 1) / (4 * pi)
    variance = 2 * pi * (weights * covariance**order) @ legendre[:, : output_lmax + 1]
    result = variance**-0.5
    result.setflags(write=False)
    return result
