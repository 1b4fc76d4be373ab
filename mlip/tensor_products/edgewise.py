"""The convolution that any bilinear product gives: multiply on every edge, then add up."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.tensor_products.protocol import Convolution, NodeProduct

Weighting = Literal["copy", "degree"]
"""What a weight of an edge and channel multiplies.

`copy`: a copy of the result; `degree`: a degree of the harmonics, which makes the filter
Σ_l R_l(r) Y_l of each channel.
"""


class EdgewiseConvolution(Convolution):
    """Messages of a bilinear product, stored for every edge before they are summed.

    The plain way, for operators without a fused sum of their own.

    Args:
        product: features of the sender times harmonics of the edge.
        weighting: what the weights multiply.
    """

    def __init__(self, product: NodeProduct, weighting: Weighting) -> None:
        super().__init__(product.lmax1, product.lmax2, product.output_lmax)
        self.product, self.weighting = product, weighting
        self._paths = product.paths[0]
        self.exact, self.mirrors = product.exact, self._paths != "mixed"

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel."""
        if self.weighting == "degree":
            return self.harmonics_lmax + 1
        return sum(self.output_multiplicity)

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """Copies of each degree."""
        return self.product.copies(self._paths)

    @property
    def multiplies(self) -> int:
        """Those of the product, and one for each number that is weighted; see `Convolution`."""
        if self.weighting == "degree":
            weighted = (self.harmonics_lmax + 1) ** 2
        else:
            weighted = sum((2 * l + 1) * n for l, n in enumerate(self.output_multiplicity))
        return self.product.multiplies(self._paths) + weighted

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m copies_channels"]]:
        """Messages summed over the neighbours; see `Convolution`."""
        parts = self.on_edges(features[graph.senders], harmonics, weights)
        return [sum_blocks(part, graph) for part in parts]

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m copies_channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        channels = features.shape[-1]
        y = jnp.stack(harmonics, axis=-1)[..., None]  # (B, W, d2, 1)
        if self.weighting == "degree":
            per_degree = weights.reshape(*weights.shape[:2], -1, channels)
            y = y * jnp.repeat(
                per_degree,
                2 * np.arange(self.harmonics_lmax + 1) + 1,
                axis=2,
                total_repeat_length=y.shape[2],
            )
        parts = self.product(features, y, self._paths)
        if self.weighting == "copy":
            sizes = np.cumsum(self.output_multiplicity)[:-1] * channels
            by_degree = jnp.split(weights[:, :, None, :], sizes.tolist(), axis=-1)
            parts = [part * weight for part, weight in zip(parts, by_degree, strict=True)]
        return [part.sum(axis=1) for part in parts]


def each_edge(
    convolution: Convolution,
    features: Float[Array, "B W d channels"],
    harmonics: Sequence[Float[Array, "B W"]],
    weights: Float[Array, "B W weights_channels"],
) -> list[Float[Array, "B W m copies_channels"]]:
    """The message of every single edge, from features that lie on the edges.

    Args:
        convolution: gives the messages.
        features: of the edges, degrees 0..input_lmax.
        harmonics: as from `spherical_harmonics`, degrees 0..harmonics_lmax.
        weights: per edge, as for the convolution.
    """
    shape = features.shape[:2]
    rows = [x.reshape(-1, 1, *x.shape[2:]) for x in (features, weights, *harmonics)]
    parts = convolution.on_edges(rows[0], rows[2:], rows[1])
    return [part.reshape(*shape, *part.shape[1:]) for part in parts]


def add_copies(
    parts: Sequence[Float[Array, "*batch m copies_channels"]], channels: int
) -> Float[Array, "*batch d channels"]:
    """All degrees in the joint layout, the copies of each added up; zero where there is none.

    With n copies the sum is divided by √n, so that unit variance stays.

    Args:
        parts: of an operator, for each degree l an array (..., 2l + 1, copies · channels).
        channels: of one copy.
    """
    added = []
    for part in parts:
        copies = part.shape[-1] // channels
        split = part.reshape(*part.shape[:-1], copies, channels)
        added.append(part if copies == 1 else split.sum(axis=-2) * (1 / sqrt(max(copies, 1))))
    return jnp.concatenate(added, axis=-2)


def sum_blocks(x: Float[Array, "B *rest"], graph: Graph) -> Float[Array, "N *rest"]:
    """Sum over the blocks of each atom."""
    return jax.ops.segment_sum(x, graph.receivers, graph.num_nodes, indices_are_sorted=True)
