"""Equivariant linear maps: one matrix per degree."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod, sqrt

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


class DegreeLinear(nnx.Module):
    """Mix channels within each degree: y_l = x_l W_l / √fan-in, without bias.

    Args:
        in_channels: input channels of each degree 0..lmax; none gives zeros.
        out_channels: output channels of each degree.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        self.weights = nnx.List(
            [
                nnx.Param(jax.random.normal(rngs.params(), sizes, dtype))
                for sizes in zip(in_channels, out_channels, strict=True)
            ]
        )

    def __call__(
        self, parts: Sequence[Float[Array, "N _ channels_in"]]
    ) -> list[Float[Array, "N _ channels_out"]]:
        """Map one array per degree, of shape (N, 2l+1, in_channels[l])."""
        return [
            matmul_last(part, weight[...] * (1.0 / sqrt(max(weight.shape[0], 1))))
            for part, weight in zip(parts, self.weights, strict=True)
        ]


class EquivariantLinear(DegreeLinear):
    """A `DegreeLinear` to the joint layout, with the same number of channels for all degrees.

    Args:
        in_channels: input channels of each degree 0..lmax; none gives zeros.
        out_channels: output channels, equal for all degrees.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        super().__init__(in_channels, [out_channels] * len(in_channels), rngs=rngs, dtype=dtype)

    def __call__(  # type: ignore[override]
        self, parts: Sequence[Float[Array, "N _ channels_in"]]
    ) -> Float[Array, "N components channels_out"]:
        """Map one array per degree, of shape (N, 2l+1, channels_in[l]), to the joint layout."""
        mapped = super().__call__(parts)
        return jnp.concatenate(mapped, axis=1) if len(mapped) > 1 else mapped[0]


def matmul_last(
    x: Float[Array, "*batch inputs"], weight: Float[Array, "inputs outputs"]
) -> Float[Array, "*batch outputs"]:
    """Multiply the last axis by a matrix: one GEMM over all others, and one for each derivative."""
    flat = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    return (flat @ weight).reshape(*x.shape[:-1], weight.shape[-1])


class DegreeElementLinear(nnx.Module):
    """Mix channels within each degree by a matrix of the atom's element.

    Args:
        num_elements: number of elements Z.
        in_channels: input channels of each degree 0..lmax.
        out_channels: output channels of each degree.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self,
        num_elements: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        self.weights = nnx.List(
            [
                nnx.Param(jax.random.normal(rngs.params(), (fan_in, num_elements, fan_out), dtype))
                for fan_in, fan_out in zip(in_channels, out_channels, strict=True)
            ]
        )

    def __call__(
        self, parts: Sequence[Float[Array, "N _ channels_in"]], species: Int[Array, "N"]
    ) -> list[Float[Array, "N _ channels_out"]]:
        """Map the degrees this layer has weights for; higher ones in `parts` are dropped."""
        return [
            _per_element(part, weight[...], species)
            for part, weight in zip(parts, self.weights, strict=False)
        ]


class ElementLinear(DegreeElementLinear):
    """A `DegreeElementLinear` in the joint layout, with the same channels for all degrees.

    Args:
        num_elements: number of elements Z.
        in_channels: input channels.
        out_channels: output channels.
        lmax: highest degree.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self,
        num_elements: int,
        in_channels: int,
        out_channels: int,
        lmax: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        degrees = lmax + 1
        super().__init__(
            num_elements, [in_channels] * degrees, [out_channels] * degrees, rngs=rngs, dtype=dtype
        )

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "N components channels_in"], species: Int[Array, "N"]
    ) -> Float[Array, "N components channels_out"]:
        """Map the degrees this layer has weights for; higher ones in `x` are dropped."""
        mapped = super().__call__(split_degrees(x), species)
        return jnp.concatenate(mapped, axis=1) if len(mapped) > 1 else mapped[0]


def _per_element(
    x: Float[Array, "N m channels_in"],
    weight: Float[Array, "channels_in Z channels_out"],
    species: Int[Array, "N"],
) -> Float[Array, "N m channels_out"]:
    # One GEMM for all elements, then each atom keeps its own: cheaper than gathering matrices.
    fan_in, num_elements, fan_out = weight.shape
    scaled = weight.reshape(fan_in, num_elements * fan_out) * (1.0 / sqrt(fan_in * num_elements))
    every = matmul_last(x, scaled).reshape(*x.shape[:2], num_elements, fan_out)
    return jnp.take_along_axis(every, species[:, None, None, None], axis=2)[:, :, 0]


def split_degrees(x: Float[Array, "N components ..."]) -> list[Float[Array, "N m ..."]]:
    """The joint layout as one array per degree; components lie on the second axis."""
    lmax = isqrt(x.shape[1]) - 1
    return jnp.split(x, [(degree + 1) ** 2 for degree in range(lmax)], axis=1)


def add_low_degrees(
    x: Float[Array, "N d channels"], low: Float[Array, "N d_low channels"]
) -> Float[Array, "N d channels"]:
    """Add features that may stop at a lower degree, in the joint layout."""
    missing = x.shape[1] - low.shape[1]
    return x + jnp.pad(low, ((0, 0), (0, missing), (0, 0))) if missing else x + low


def add_low_degrees_by_degree(
    parts: Sequence[Float[Array, "N m channels"]], low: Sequence[Float[Array, "N m channels"]]
) -> list[Float[Array, "N m channels"]]:
    """The same, in the layout of one array for each degree."""
    added = [part + kept for part, kept in zip(parts, low, strict=False)]
    return added + list(parts[len(low) :])
