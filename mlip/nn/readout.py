"""Readouts: the energy of an atom from its scalars."""

from __future__ import annotations

from math import sqrt

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.nn.path_shared_linear import PathSharedLinear
from mlip.nn.radial import RadialMLP


class LinearReadout(nnx.Module):
    """Atomic energy as a linear function of the scalars."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (channels, 1), dtype))

    def __call__(self, scalars: Float[Array, "N channels"]) -> Float[Array, "N"]:
        """Energy before scale and shift."""
        return (scalars @ self.weight[...])[:, 0] * (1.0 / sqrt(self.weight.shape[0]))


class MLPReadout(nnx.Module):
    """Atomic energy by one hidden layer of unit second moment, without biases, as in MACE."""

    def __init__(self, channels: int, hidden: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.mlp = RadialMLP((channels, hidden, 1), rngs=rngs, dtype=dtype)

    def __call__(self, scalars: Float[Array, "N channels"]) -> Float[Array, "N"]:
        """Energy before scale and shift."""
        return self.mlp(scalars)[:, 0]


class BiasedMLPReadout(nnx.Module):
    """Atomic energy by one hidden layer of plain SiLU, with biases, as in TDN."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.hidden = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)
        self.out = PathSharedLinear(channels, 1, rngs=rngs, dtype=dtype)

    def __call__(self, scalars: Float[Array, "N channels"]) -> Float[Array, "N"]:
        """Energy before scale and shift."""
        return self.out(jax.nn.silu(self.hidden(scalars[:, None])))[:, 0, 0]


def atomic_energy(
    value: Float[Array, "N"],
    scale: Float[Array, "N"] | float,
    shift: Float[Array, "N"] | float,
    graph: Graph,
) -> Float[Array, "N"]:
    """Energy of every atom from what the readouts say, E_i = scale · value_i + shift; eV.

    Args:
        value: of the readouts.
        scale: of the data, eV, for all atoms or for each.
        shift: the same.
        graph: gives the atoms; padding has no energy.
    """
    energy = scale * value + shift
    return jnp.where(graph.node_mask, energy, jnp.zeros_like(energy))
