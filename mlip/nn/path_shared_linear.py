"""Linear maps with one matrix for all degrees, plain and followed by a gate."""

from __future__ import annotations

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mlip.nn.linear import matmul_last


class PathSharedLinear(nnx.Module):
    """Mix channels by one matrix for all degrees: y_l = x_l W / √fan-in + δ_l0 b.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        bias: whether degree 0 has one.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Source: Lin et al., tensor decomposition networks (2025), path-weight sharing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        shape = (in_channels, out_channels)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.zeros((out_channels,), dtype)) if bias else None

    def __call__(
        self, x: Float[Array, "*batch components channels_in"]
    ) -> Float[Array, "*batch components channels_out"]:
        """Map degrees 0.. in the joint layout; the first component is degree 0."""
        weight = self.weight[...]
        mapped = matmul_last(x, weight * (1.0 / sqrt(weight.shape[0])))
        if self.bias is None:
            return mapped
        is_scalar = jnp.asarray(np.arange(x.shape[-2]) == 0, x.dtype)
        bias = is_scalar[:, None] * self.bias[...][None]
        return mapped + bias.reshape((1,) * (x.ndim - 2) + bias.shape)


class GatedLinear(nnx.Module):
    """A path-shared linear map to twice the channels, and the gate that halves them again.

        u = x W / √fan-in + b,   v = x₀ W' / √fan-in + b',
        y_0 = silu(u_0),   y_l = u_l · sigmoid(v)  for l > 0

    One matrix W serves all degrees, the bias is added to degree 0. Of the second half, v, only
    degree 0 opens a gate, so nothing else of it is computed.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ) -> None:
        shape = (in_channels, 2 * out_channels)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.zeros((2 * out_channels,), dtype))

    def __call__(
        self, x: Float[Array, "*batch d channels_in"]
    ) -> Float[Array, "*batch d channels_out"]:
        """Map and gate; degrees are in the joint layout."""
        fan_in, fan_out = self.weight.shape[0], self.weight.shape[1] // 2
        scaled = self.weight[...] * (1.0 / sqrt(fan_in))
        # One GEMM over all scalars, with all columns, and one over the rest, with half of them.
        scalars, rest = x[..., 0, :], x[..., 1:, :]
        both = scalars.reshape(-1, fan_in) @ scaled + self.bias[...][None]
        u, gates = both[:, :fan_out], jax.nn.sigmoid(both[:, fan_out:])
        mapped = rest.reshape(-1, fan_in) @ scaled[:, :fan_out]
        gated = mapped.reshape(-1, rest.shape[-2], fan_out) * gates[:, None]
        result = jnp.concatenate([jax.nn.silu(u)[:, None], gated], axis=1)
        return result.reshape(*x.shape[:-1], fan_out)
