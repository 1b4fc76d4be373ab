"""Linear maps and gates that commute with turns and reflections about the polar axis.

Features in the frame of an edge are kept by order: one array (..., signs, degrees · channels) for
each m = 0..mmax, with one sign for m = 0 and the rows +m and −m else, and the degrees l = m..lmax
outermost on the last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mlip.nn.linear import matmul_last
from mlip.nn.radial import scaled_silu


class SO2Linear(nnx.Module):
    """Mix degrees and channels within each order: y_±m = x_±m W_m / √fan-in.

    The general map that commutes with turns also has a part y_±m = ∓ x_∓m W'_m. It turns with a
    mirror that contains the axis, hence natural parity would be lost; it is left out. One matrix
    product for each order takes both signs of all edges at once.

    Args:
        lmax: highest degree.
        mmax: highest order, at most lmax.
        in_channels: channels of every degree of the input.
        out_channels: channels of every degree of the result.
        num_invariants: further results of m = 0.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Source: Passaro and Zitnick, ICML 2023, section 3.
    """

    def __init__(
        self,
        lmax: int,
        mmax: int,
        in_channels: int,
        out_channels: int,
        num_invariants: int = 0,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        weights = []
        for m in range(mmax + 1):
            degrees = lmax + 1 - m
            outputs = degrees * out_channels + (num_invariants if m == 0 else 0)
            shape = (degrees * in_channels, outputs)
            weights.append(nnx.Param(jax.random.normal(rngs.params(), shape, dtype)))
        self.weights = nnx.List(weights)
        self.num_invariants = num_invariants

    def __call__(
        self, orders: Sequence[Float[Array, "*batch signs inputs"]]
    ) -> tuple[list[Float[Array, "*batch signs outputs"]], Float[Array, "*batch 1 invariants"]]:
        """The mapped features by order, and the further invariants."""
        mapped = [
            matmul_last(x, weight[...] * (1.0 / sqrt(weight.shape[0])))
            for x, weight in zip(orders, self.weights, strict=True)
        ]
        size = mapped[0].shape[-1] - self.num_invariants
        mapped[0], invariants = jnp.split(mapped[0], [size], axis=-1)
        return mapped, invariants


def gate_orders(
    orders: Sequence[Float[Array, "*batch signs degrees_channels"]],
    gates: Float[Array, "*batch 1 gates"],
) -> list[Float[Array, "*batch signs degrees_channels"]]:
    """The gate of `gate.gate` in the frame of an edge: one for each degree l > 0 and channel.

        y_0c = φ(x_0c),   y_lmc = φ(g_lc) x_lmc  for l > 0,   φ(u) = c · silu(u)

    Args:
        orders: features of degrees 0..lmax.
        gates: g of degrees 1..lmax, the degrees outermost; invariant, hence of order 0.
    """
    channels = orders[0].shape[-1] - gates.shape[-1]
    scalars, others = jnp.split(orders[0], [channels], axis=-1)
    opened = scaled_silu(gates)
    gated = [jnp.concatenate([scaled_silu(scalars), others * opened], axis=-1)]
    for m, x in enumerate(orders[1:], start=1):
        gated.append(x * opened[..., (m - 1) * channels :])
    return gated


def by_order(
    parts: Sequence[Float[Array, "*batch rows channels"]], mmax: int
) -> list[Float[Array, "*batch signs degrees_channels"]]:
    """From one array for each degree, as rotated into the frame, to one for each order.

    Args:
        parts: rows 0, 1, −1, 2, −2, … of each degree 0..lmax, up to order mmax.
        mmax: highest order.
    """
    # Split, not sliced: the derivative of a split is one concatenation.
    degrees = [jnp.split(part, list(range(1, part.shape[-2], 2)), axis=-2) for part in parts]
    return [jnp.concatenate([signs[m] for signs in degrees[m:]], axis=-1) for m in range(mmax + 1)]


def by_degree(
    orders: Sequence[Float[Array, "*batch signs degrees_channels"]], lmax: int
) -> list[Float[Array, "*batch rows channels"]]:
    """The inverse of `by_order`."""
    columns = [jnp.split(x, lmax + 1 - m, axis=-1) for m, x in enumerate(orders)]
    return [
        jnp.concatenate([columns[m][l - m] for m in range(min(l + 1, len(orders)))], axis=-2)
        for l in range(lmax + 1)
    ]
