"""Features on edges taken to the frame of each edge, and what comes back from there."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.nn.wigner import edge_frame


class EdgeFrames(NamedTuple):
    """For each edge a rotation that takes it to the polar axis, orders |m| ≤ mmax alone.

    Attributes:
        into: for each degree l the rows of its matrix D_l that are kept, shape
            (B, W, rows, 2l+1), in the order m = 0, 1, −1, 2, −2, … of `wigner.edge_frame`.
        back: for each degree the transposed matrices times the weight of their edge, side by side
            over the edges of a row, shape (B, 2l+1, W · rows).
    """

    into: list[Float[Array, "B W rows m"]]
    back: list[Float[Array, "B m W_rows"]]

    def rotate(
        self, parts: Sequence[Float[Array, "B W m channels"]]
    ) -> list[Float[Array, "B W rows channels"]]:
        """D_l x_l for features on the edges, one array for each degree."""
        rotated = [matrix @ part for matrix, part in zip(self.into[1:], parts[1:], strict=True)]
        return [parts[0], *rotated]  # D_0 is 1

    def sum_back(
        self, parts: Sequence[Float[Array, "B W rows channels"]]
    ) -> Float[Array, "B d channels"]:
        """Σ over the edges of a row of their weight times D_lᵀ y_l: one product for each degree."""
        summed = [
            matrix @ part.reshape(part.shape[0], -1, part.shape[-1])
            for matrix, part in zip(self.back, parts, strict=True)
        ]
        return jnp.concatenate(summed, axis=1)

    def spread(
        self, scalars: Sequence[Float[Array, "B W channels"]]
    ) -> Float[Array, "B d channels"]:
        """Σ over the edges of a row of their weight times Y_l times a scalar of each degree l.

        The row m = 0 of a frame is Y_l(r̂) / √(2l+1).
        """
        summed = []
        for l, (matrix, part) in enumerate(zip(self.back, scalars, strict=True)):
            harmonics = matrix.reshape(*matrix.shape[:2], part.shape[1], -1)[..., 0]
            summed.append(harmonics @ (part * sqrt(2 * l + 1)))
        return jnp.concatenate(summed, axis=1)


def edge_frames(
    direction: Float[Array, "B W 3"], weight: Float[Array, "B W"], lmax: int, mmax: int
) -> EdgeFrames:
    """The frames of all edges.

    Args:
        direction: unit vectors.
        weight: of what comes back from an edge; zero on padding.
        lmax: highest degree.
        mmax: highest order |m|.
    """
    into = edge_frame(direction, lmax, mmax)
    back = [
        # The weights come after the transposition, which would else be a slow part of the product.
        (jnp.transpose(matrix, (0, 3, 1, 2)) * weight[:, None, :, None]).reshape(
            matrix.shape[0], matrix.shape[-1], -1
        )
        for matrix in into
    ]
    return EdgeFrames(into, back)
