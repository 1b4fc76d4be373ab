"""Layer normalisation that turns with the features."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-8


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
    """Each degree divided by the root mean square of its components and channels.

        y_lmc = a_lc (x_lmc − δ_l0 ⟨x_0⟩) / √(⟨x_l²⟩ + ε) + δ_l0 b_c

    with means over channels, in ⟨x_l²⟩ over the orders m as well. A degree whose components are
    all far below √ε stays small: atoms without neighbours are no special case.

    Args:
        lmax: highest degree.
        channels: of every degree.
        dtype: floating-point type.
        epsilon: ε.

    Source: Lin et al., tensor decomposition networks (2025), after Liao and Smidt, ICLR 2023.
    """

    def __init__(
        self, lmax: int, channels: int, *, dtype: DTypeLike, epsilon: float = 1e-5
    ) -> None:
        self.scale = nnx.Param(jnp.ones((lmax + 1, channels), dtype))
        self.bias = nnx.Param(jnp.zeros((channels,), dtype))
        self.lmax, self.epsilon = lmax, epsilon

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
        factor = jax.lax.rsqrt(variance + self.epsilon) @ spread
        scale = spread.T @ self.scale[...]
        return x * factor[..., None] * scale[None] + (is_scalar * self.bias[...][None])[None]
