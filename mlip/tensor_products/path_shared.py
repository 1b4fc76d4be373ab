"""The fused Clebsch–Gordan product: all couplings added up with constant coefficients.

It is the exact counterpart of approximate products that share one weight between all couplings,
and shows what an approximation of the fused coefficients gains and what it loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import sqrt
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field

from mlip.graph import Graph
from mlip.nn.irreps import coupling_paths
from mlip.settings import Settings
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.fused import FusedPaths, coupling_sign, fused_couplings
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.protocol import Convolution, NodeProduct, Paths, check_paths
from mlip.tensor_products.sparse import Coupling, CouplingMap


class PathSharedSettings(Settings):
    """Options of the fused product."""

    name: Literal["path_shared"] = "path_shared"
    paths: FusedPaths = Field(
        "even",
        description="couplings added up: even respects mirror images, all mixes both parities",
    )


class PathShared(NodeProduct):
    """All couplings that end in a degree added up, one copy of each degree.

        z_{l3 m3} = √((2 l3+1) / n_l3) Σ C^{l3 m3}_{l1 m1 l2 m2} x_{l1 m1} y_{l2 m2}

    summed over l1, l2, m1 and m2, with n_l3 couplings that end in l3, so that independent
    components of unit variance give components of unit variance. Evaluated from the non-zero
    coefficients.

    Even and odd couplings are added up apart. With `paths` `all` they are added to each other,
    with the signs of `fused_tensor`: what `cp` computes at its exact rank.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
        paths: the couplings that are added to each other.
    """

    def __init__(
        self, lmax1: int, lmax2: int, output_lmax: int, paths: FusedPaths = "even"
    ) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self.paths: tuple[Paths, ...] = ("mixed",) if paths == "all" else ("even", "odd")

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One of each degree in which a coupling ends."""
        check_paths(self, paths)
        return self._map(paths).copies

    def multiplies(self, paths: Paths = "even") -> int:
        """Two for each non-zero coefficient."""
        check_paths(self, paths)
        return self._map(paths).multiplies

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        return self._map(paths)(x, y)

    def _map(self, paths: Paths) -> CouplingMap:
        return _added_couplings(self.lmax1, self.lmax2, self.output_lmax, paths)


class PathSharedConvolution(Convolution):
    """The fused product of sender features and edge harmonics, one weight per edge and channel.

        out_i[k, c] = Σ_j w_ij[c] Σ_m Q_ij[k, m] x_j[m, c],   Q_ij[k, m] = Σ_n M_kmn Y_ij[n]

    with the coefficients M of `PathShared`. The small matrix Q of an edge serves all channels. The
    matrices of a block of edges side by side, times the weighted features of its senders, give
    the sum over the neighbours in one matrix product.

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.
        paths: the couplings that are added up.
    """

    def __init__(
        self, input_lmax: int, harmonics_lmax: int, output_lmax: int, paths: FusedPaths = "even"
    ) -> None:
        super().__init__(input_lmax, harmonics_lmax, output_lmax)
        self.mirrors = paths == "even"
        kind: Paths = "mixed" if paths == "all" else "even"
        self._map = _added_couplings(input_lmax, harmonics_lmax, output_lmax, kind)

    @property
    def num_weights(self) -> int:
        """One weight per edge and channel."""
        return 1

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """One of each degree in which a coupling ends."""
        return self._map.copies

    @property
    def multiplies(self) -> int:
        """One weight for each component, and the matrix Q; see `Convolution`."""
        rows, columns, _ = self._map.bilinear.sizes
        return columns * (1 + rows)

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m copies_channels"]]:
        """Messages summed over the neighbours of each atom; see `Convolution`."""
        messages = sum_blocks(self._messages(features[graph.senders], harmonics, weights), graph)
        return split_reached(messages, self._map.copies)

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W channels"],
    ) -> list[Float[Array, "B m copies_channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        messages = self._messages(features, harmonics, weights)
        return split_reached(messages, self._map.copies)

    def _messages(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W channels"],
    ) -> Float[Array, "B reached channels"]:
        """All degrees that are reached, summed over each row."""
        rows, columns, num_harmonics = self._map.bilinear.sizes
        blocks, width = weights.shape[:2]
        y = jnp.stack(harmonics, axis=-1).reshape(-1, num_harmonics)
        couplings = jnp.asarray(self._map.bilinear.dense().reshape(-1, num_harmonics), y.dtype)
        matrices = (y @ couplings.T).reshape(blocks, width, rows, columns)
        side_by_side = jnp.swapaxes(matrices, 1, 2).reshape(blocks, rows, width * columns)
        weighted = features * weights[:, :, None, :]
        return side_by_side @ weighted.reshape(blocks, width * columns, -1)


@cache
def _added_couplings(lmax1: int, lmax2: int, output_lmax: int, paths: Paths) -> CouplingMap:
    """Every path, scaled so that the sum of those that end in a degree has unit variance."""
    degrees = (lmax1, lmax2, output_lmax)
    if paths == "odd":
        found = dict.fromkeys(coupling_paths(*degrees, "odd"), 1.0)
    else:
        fused = fused_couplings(*degrees, "all" if paths == "mixed" else "even")
        found = {path: coupling_sign(path) for path in fused}
    count = np.bincount([path.l3 for path in found], minlength=output_lmax + 1)
    couplings = [
        Coupling(path, 0, sign * sqrt((2 * path.l3 + 1) / count[path.l3]))
        for path, sign in found.items()
    ]
    return CouplingMap(couplings, lmax1, lmax2, [min(int(n), 1) for n in count])
