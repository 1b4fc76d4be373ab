"""From arrays of all components to the arrays per degree of a product."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def split_reached(
    z: Float[Array, "*batch components channels"], copies: Sequence[int]
) -> list[Float[Array, "*batch m copies_channels"]]:
    """Cut the components into degrees that have one copy or none.

    Args:
        z: 2l + 1 components for each degree with a copy and none for the others, in order.
        copies: one or zero for each degree.

    Returns:
        for each degree l an array (..., 2l + 1, channels), without channels for zero copies.
    """
    sizes = [n * (2 * l + 1) for l, n in enumerate(copies)]
    parts = jnp.split(z, np.cumsum(sizes)[:-1].tolist(), axis=-2)
    return [
        part if n else jnp.zeros((*part.shape[:-2], 2 * l + 1, 0), part.dtype)
        for l, (part, n) in enumerate(zip(parts, copies, strict=True))
    ]


def split_degrees_first(
    z: Float[Array, "components *batch channels"], copies: Sequence[int]
) -> list[Float[Array, "*batch m copies_channels"]]:
    """Cut the first axis into degrees, and bring each to the layout of a product's result.

    Args:
        z: along the first axis the degrees 0.. in order, 2l + 1 components for each copy of a
            degree; the channels last.
        copies: of each degree.

    Returns:
        for each degree l an array (..., 2l + 1, copies · channels), the copies outermost.
    """
    sizes = [n * (2 * l + 1) for l, n in enumerate(copies)]
    parts = jnp.split(z, np.cumsum(sizes)[:-1].tolist())
    return [
        merge_copies(part.reshape(n, 2 * l + 1, *part.shape[1:]))
        for l, (part, n) in enumerate(zip(parts, copies, strict=True))
    ]


def merge_copies(
    z: Float[Array, "copies m *batch channels"],
) -> Float[Array, "*batch m copies_channels"]:
    """The layout of one degree of a product's result: copies and channels in the last axis."""
    copies, m, *batch, channels = z.shape
    return jnp.moveaxis(z, (0, 1), (-2, -3)).reshape(*batch, m, copies * channels)
