"""Readouts: the energy of an atom from its scalars."""

from __future__ import annotations

from math import sqrt

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mlip.nn.radial import RadialMLP


class LinearReadout(nnx.Module):
    """Atomic energy as a linear function of the scalars."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (channels, 1), dtype))

    def __call__(self, scalars: Float[Array, "N channels"]) -> Float[Array, "N"]:
        """Energy before scale and shift."""
        return (scalars @ self.weight[...])[:, 0] * (1.0 / sqrt(self.weight.shape[0]))


class MLPReadout(nnx.Module):
    """Atomic energy by one hidden SiLU layer without biases."""

    def __init__(self, channels: int, hidden: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.mlp = RadialMLP((channels, hidden, 1), rngs=rngs, dtype=dtype)

    def __call__(self, scalars: Float[Array, "N channels"]) -> Float[Array, "N"]:
        """Energy before scale and shift."""
        return self.mlp(scalars)[:, 0]
