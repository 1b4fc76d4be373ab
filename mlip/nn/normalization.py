"""Layer normalisation that turns with the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-8

NormSizes = Literal["joint", "per_degree"]
"""What `EquivariantLayerNorm` divides a degree by: the size of all together, or its own."""


class DegreeRMSNorm(nnx.Module):
    """The features of an atom divided by one size, the root mean square over all degrees.

        y_lmc = a_lc x_lmc / √(Σ_l w_l ⟨x_l²⟩ + ε),   w_l ∝ C_l / (2l + 1),   Σ_l w_l = 1

    ⟨x_l²⟩ is the mean over orders m and channels. Degrees keep their proportions to each other.

    Args:
        channels: C_l of each degree 0..lmax.
        dtype: floating-point type.

    Source: the scale of Liao et al., EquiformerV2, ICLR 2024, with the degrees weighted as in
        Koker et al., arXiv:2508.16067 (2025).
    """

    def __init__(self, channels: Sequence[int], *, dtype: DTypeLike) -> None:
        self.scale = nnx.List([nnx.Param(jnp.ones((count,), dtype)) for count in channels])
        weights = [count / (2 * degree + 1) for degree, count in enumerate(channels)]
        self.degree_weights = tuple(weight / sum(weights) for weight in weights)

    def __call__(self, parts: Sequence[Float[Array, "N _ _"]]) -> list[Float[Array, "N _ _"]]:
        """Normalise every atom by itself; one array (N, 2l+1, C_l) for each degree."""
        squares = [
            weight * jnp.mean(part * part, axis=(1, 2))
            for part, weight in zip(parts, self.degree_weights, strict=True)
        ]
        factor = jax.lax.rsqrt(sum(squares[1:], squares[0]) + EPSILON)[:, None, None]
        return [
            part * factor * scale[...][None, None]
            for part, scale in zip(parts, self.scale, strict=True)
        ]


class EquivariantLayerNorm(nnx.Module):
    """Centred scalars and all other degrees, divided by their root mean square.

        y_lmc = a_lc (x_lmc − δ_l0 ⟨x_0⟩) / √(s_l + ε) + δ_l0 b_c

    with means over channels. `per_degree` divides each degree by its own size: s_l = ⟨x_l²⟩, the
    mean over the orders m as well. Where a degree vanishes by symmetry, as the vectors do on an
    atom in the middle of a tetrahedron, it jumps from nothing to full size within √ε of there:
    second derivatives are of the order 1/ε. `joint` divides all by one size, the mean of s_l over
    the degrees, which the scalars keep away from zero. An atom whose features are all far below √ε
    keeps small ones: no neighbours are no special case.

    Args:
        lmax: highest degree.
        channels: of every degree.
        sizes: what a degree is divided by; of scalars alone both are the same.
        dtype: floating-point type.
        epsilon: ε.

    Source: `per_degree`: Lin et al., tensor decomposition networks (2025), after Liao and Smidt,
        ICLR 2023. `joint`: the balance of degrees of Liao et al., EquiformerV2, ICLR 2024.
    """

    def __init__(
        self,
        lmax: int,
        channels: int,
        *,
        sizes: NormSizes = "joint",
        dtype: DTypeLike,
        epsilon: float = 1e-5,
    ) -> None:
        self.scale = nnx.Param(jnp.ones((lmax + 1, channels), dtype))
        self.bias = nnx.Param(jnp.zeros((channels,), dtype))
        self.lmax, self.sizes, self.epsilon = lmax, sizes, epsilon

    def __call__(self, x: Float[Array, "N d channels"]) -> Float[Array, "N d channels"]:
        """Normalise every atom by itself.

        Args:
            x: degrees 0..lmax.
        """
        # (L + 1, d): which component belongs to which degree.
        degrees = np.arange(self.lmax + 1)
        spread = jnp.asarray(np.repeat(np.eye(len(degrees)), 2 * degrees + 1, axis=1), x.dtype)
        average = spread.T / spread.sum(axis=1)[None]
        is_scalar = spread[0][:, None]  # (d, 1)
        x = x - is_scalar[None] * x[:, :1].mean(axis=-1, keepdims=True)
        variance = jnp.mean(x * x, axis=-1) @ average
        if self.sizes == "joint":
            variance = jnp.broadcast_to(variance.mean(axis=1, keepdims=True), variance.shape)
        factor = jax.lax.rsqrt(variance + self.epsilon) @ spread
        scale = spread.T @ self.scale[...]
        return x * factor[..., None] * scale[None] + (is_scalar * self.bias[...][None])[None]
