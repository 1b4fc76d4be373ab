"""The channelwise Clebsch–Gordan convolution, with the sum over neighbours fused in."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.nn.irreps import Path, clebsch_gordan, degree_slice, even_paths


class ChannelwiseConvolution:
    """Sender features times edge harmonics, one weight per edge, path and channel.

        out_i[p, m3, c] = Σ_j w_ij[p, c] Σ_{m1 m2} √(2 l3+1) C^{l3 m3}_{l1 m1 l2 m2} x_j[l1 m1, c] Y_ij[l2 m2]

    For each path and block of edges the harmonics are contracted with the coupling first; what is
    left is one small matrix product per block, which sums over the neighbours as it goes: messages
    per edge are never stored.

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.
    """

    def __init__(self, input_lmax: int, harmonics_lmax: int, output_lmax: int) -> None:
        self.input_lmax = input_lmax
        self.output_lmax = output_lmax
        self.paths = even_paths(input_lmax, harmonics_lmax, output_lmax)
        self._couplings = [_coupling(path) for path in self.paths]

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel: one for each path."""
        return len(self.paths)

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """Paths that end in each degree 0..output_lmax."""
        ends = [path.l3 for path in self.paths]
        return tuple(ends.count(degree) for degree in range(self.output_lmax + 1))

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W paths_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m paths_channels"]]:
        """Messages summed over the neighbours of each atom.

        Args:
            features: of the senders, degrees 0..input_lmax.
            harmonics: as from `spherical_harmonics`.
            weights: per edge, shape (B, W, paths · channels), zero on padded edges.
            graph: gives senders and receivers.

        Returns:
            for each degree l3 an array (N, 2 l3 + 1, paths of l3 · channels).
        """
        channels = features.shape[-1]
        sender_features = features[graph.senders]  # (B, W, d, C)
        blocks, width = graph.senders.shape
        outputs: list[list[jax.Array]] = [[] for _ in range(self.output_lmax + 1)]
        for index, (path, coupling) in enumerate(zip(self.paths, self._couplings, strict=True)):
            weight = weights[..., index * channels : (index + 1) * channels]
            x = sender_features[:, :, degree_slice(path.l1)]
            weighted = (weight[:, :, None, :] * x).reshape(blocks, -1, channels)
            rotation = _contract_harmonics(coupling, harmonics[degree_slice(path.l2)])
            outputs[path.l3].append(rotation.reshape(blocks, 2 * path.l3 + 1, -1) @ weighted)
        merged = [jnp.concatenate(parts, axis=-1) for parts in outputs]
        return [_sum_blocks(part, graph) for part in merged]


def _coupling(path: Path) -> np.ndarray:
    """√(2 l3+1) C with axes (m3, m1, m2)."""
    block = clebsch_gordan(path.l1, path.l2, path.l3) * np.sqrt(2 * path.l3 + 1)
    return np.transpose(block, (2, 0, 1))


def _contract_harmonics(
    coupling: np.ndarray, harmonics: Sequence[Float[Array, "B W"]]
) -> Float[Array, "B m3 W m1"]:
    """T[b, m3, w, m1] = Σ_m2 C[m3, m1, m2] Y_m2[b, w]."""
    m3, m1, m2 = coupling.shape
    y = jnp.stack(harmonics, axis=-1)  # (B, W, m2)
    matrix = jnp.asarray(np.transpose(coupling, (2, 0, 1)).reshape(m2, m3 * m1), y.dtype)
    contracted = (y @ matrix).reshape(*y.shape[:2], m3, m1)
    return jnp.swapaxes(contracted, 1, 2)


def _sum_blocks(x: Float[Array, "B m channels"], graph: Graph) -> Float[Array, "N m channels"]:
    return jax.ops.segment_sum(x, graph.receivers, graph.num_nodes, indices_are_sorted=True)
