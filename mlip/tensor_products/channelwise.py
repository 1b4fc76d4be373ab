"""The channelwise Clebsch–Gordan convolution, with the sum over neighbours fused in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.nn.irreps import Path, clebsch_gordan, coupling_paths, degree_slice, dim
from mlip.nn.linear import matmul_last, split_degrees
from mlip.settings import Settings
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.protocol import Convolution


class ChannelwiseSettings(Settings):
    """Options of the channelwise product: none."""

    name: Literal["channelwise"] = "channelwise"


class ChannelwiseConvolution(Convolution):
    """Sender features times edge harmonics, one weight per edge, path and channel.

        out_i[p, m3, c] = Σ_j w_ij[p, c] Σ_{m1 m2} √(2 l3+1) C^{l3 m3}_{l1 m1 l2 m2}
                          · x_j[l1 m1, c] Y_ij[l2 m2]

    For each path and block of edges the harmonics are contracted with the coupling first; what is
    left is one small matrix product per block, which sums over the neighbours as it goes: messages
    per edge are never stored.

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.
    """

    def __init__(self, input_lmax: int, harmonics_lmax: int, output_lmax: int) -> None:
        super().__init__(input_lmax, harmonics_lmax, output_lmax)
        self._paths = coupling_paths(input_lmax, harmonics_lmax, output_lmax)
        self._couplings = _coupling_matrix(self._paths, harmonics_lmax)

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel: one for each path."""
        return len(self._paths)

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """Paths that end in each degree 0..output_lmax."""
        ends = [path.l3 for path in self._paths]
        return tuple(ends.count(degree) for degree in range(self.output_lmax + 1))

    @property
    def multiplies(self) -> int:
        """Weights and rotations of each path; see `Convolution`."""
        sizes = [(2 * path.l1 + 1) * (2 * path.l3 + 2) for path in self._paths]
        return sum(sizes)

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W paths_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m paths_channels"]]:
        """Messages summed over the neighbours of each atom; see `Convolution`."""
        parts = self._messages(_gather_senders(features, graph), harmonics, weights)
        return [sum_blocks(part, graph) for part in parts]

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W paths_channels"],
    ) -> list[Float[Array, "B m paths_channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        return self._messages(jnp.swapaxes(features, 1, 2), harmonics, weights)

    def _messages(
        self,
        features: Float[Array, "B d W channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W paths_channels"],
    ) -> list[Float[Array, "B m paths_channels"]]:
        blocks, channels = features.shape[0], features.shape[-1]
        # Parts are split, not sliced: the derivative of a split is one concatenation.
        senders = split_degrees(features)  # of (B, 2 l1+1, W, C)
        rotations = self._rotations(harmonics)
        weight_of_path = jnp.split(weights[:, None], len(self._paths), axis=-1)
        outputs: list[list[jax.Array]] = [[] for _ in range(self.output_lmax + 1)]
        for path, weight, rotation in zip(self._paths, weight_of_path, rotations, strict=True):
            weighted = (senders[path.l1] * weight).reshape(blocks, -1, channels)
            rotation = rotation.reshape(blocks, 2 * path.l3 + 1, -1)
            outputs[path.l3].append(rotation @ weighted)
        return [jnp.concatenate(parts, axis=-1) for parts in outputs]

    def _rotations(
        self, harmonics: Sequence[Float[Array, "B W"]]
    ) -> list[Float[Array, "B m3_m1 W"]]:
        """T[b, (m3, m1), w] = Σ_m2 √(2 l3+1) C[m3, m1, m2] Y_m2[b, w] of each path."""
        y = jnp.stack(harmonics, axis=-1)  # (B, W, m2)
        every = matmul_last(y, jnp.asarray(self._couplings, y.dtype))
        sizes = [(2 * path.l3 + 1) * (2 * path.l1 + 1) for path in self._paths]
        transposed = jnp.swapaxes(every, 1, 2)
        return jnp.split(transposed, np.cumsum(sizes)[:-1].tolist(), axis=1)


def _gather_senders(features: Float[Array, "N d C"], graph: Graph) -> Float[Array, "B d W C"]:
    """Sender features with the edges of a block next to the channels, as the product wants them."""
    num_nodes, d, channels = features.shape
    component = jnp.arange(d, dtype=graph.senders.dtype)[None, :, None]
    rows = graph.senders[:, None, :] * d + component
    return features.reshape(num_nodes * d, channels)[rows]


def _coupling_matrix(paths: Sequence[Path], harmonics_lmax: int) -> np.ndarray:
    """√(2 l3+1) C of all paths as one matrix, shape ((harmonics_lmax+1)², Σ (2 l3+1)(2 l1+1))."""
    columns = []
    for path in paths:
        block = clebsch_gordan(path.l1, path.l2, path.l3) * np.sqrt(2 * path.l3 + 1)
        matrix = np.zeros((dim(harmonics_lmax), (2 * path.l3 + 1) * (2 * path.l1 + 1)))
        matrix[degree_slice(path.l2)] = np.transpose(block, (1, 2, 0)).reshape(2 * path.l2 + 1, -1)
        columns.append(matrix)
    return np.concatenate(columns, axis=1)
