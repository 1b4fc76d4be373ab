"""The convolution of a product with fixed coefficients: neighbours are summed before it."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.nn.irreps import degree_slice, dim
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.protocol import NEIGHBORS, Convolution, NodeProduct


class MomentConvolution(Convolution):
    """Σ_j K(x_j, Σ_l w_ij[l] Y_l(r̂_ij)) for a bilinear map K that adds all couplings.

        M_i[l m, a, c] = Σ_j Y_lm(r̂_ij) w_ij[l, c] x_j[a, c],
        out_i[k, c] = Σ_{lm, a} K[a, lm, k] M_i[l m, a, c]

    Since K is bilinear and the same for all edges, it is applied to the moments M_i of a block of
    neighbours and not to single edges. Moments are plain matrix products that sum over the
    neighbours as they go; with few degrees in the features they are smaller than values of the
    features at points. A channel has one weight for each edge and degree of the harmonics, which
    makes the filter Σ_l w_l(r) Y_l.

    Args:
        product: gives degrees and what is known about the map.
        coefficients: K, shape (d1, d2, d3); zero in degrees that are never reached.
    """

    def __init__(
        self,
        product: NodeProduct,
        coefficients: Float[np.ndarray, "d1 d2 d3"],
    ) -> None:
        super().__init__(product.lmax1, product.lmax2, product.output_lmax)
        paths = product.paths[0]
        self.exact, self.mirrors = product.exact, paths != "mixed"
        self._multiplicity = product.copies(paths)
        reached = [
            coefficients[:, :, degree_slice(l)] for l, n in enumerate(self._multiplicity) if n
        ]
        joint = np.concatenate(reached, axis=2)
        self._coefficients = joint.transpose(2, 1, 0).reshape(joint.shape[2], -1)

    @property
    def num_weights(self) -> int:
        """One for each degree of the harmonics."""
        return self.harmonics_lmax + 1

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """One for each degree that is reached."""
        return self._multiplicity

    @property
    def multiplies(self) -> int:
        """Weights, moments, and the map of the moments; see `Convolution`."""
        return moment_multiplies(self.input_lmax, self.harmonics_lmax, len(self._coefficients))

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m copies_channels"]]:
        """Messages summed over the neighbours of each atom; see `Convolution`."""
        messages = self._messages(features[graph.senders], harmonics, weights)
        return split_reached(sum_blocks(messages, graph), self._multiplicity)

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m copies_channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        return split_reached(self._messages(features, harmonics, weights), self._multiplicity)

    def _messages(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> Float[Array, "B reached channels"]:
        """All degrees that are reached, summed over each row."""
        moments = self._moments(features, harmonics, weights)
        matrix = jnp.asarray(self._coefficients, moments.dtype)
        # A batch of products, one for each block, needs no transposition of the moments.
        return jnp.broadcast_to(matrix, (moments.shape[0], *matrix.shape)) @ moments

    def _moments(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> Float[Array, "B d2_d channels"]:
        """Σ over the edges of each row, harmonics outermost."""
        flat = (*features.shape[:2], -1)
        # Weights are split, not sliced: the derivative of a split is one concatenation.
        by_degree = jnp.split(weights[:, :, None], self.num_weights, axis=-1)
        parts = [
            jnp.stack(harmonics[degree_slice(l)], axis=1) @ (features * weight).reshape(flat)
            for l, weight in enumerate(by_degree)
        ]
        return jnp.concatenate(parts, axis=1).reshape(len(features), -1, features.shape[-1])


def moment_multiplies(input_lmax: int, harmonics_lmax: int, reached: int) -> int:
    """Multiplications of a `MomentConvolution` for one channel of one edge.

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        reached: components of the result in degrees that are reached.
    """
    inputs, moments = dim(input_lmax), dim(input_lmax) * dim(harmonics_lmax)
    return inputs * (harmonics_lmax + 1) + moments + moments * reached // NEIGHBORS
