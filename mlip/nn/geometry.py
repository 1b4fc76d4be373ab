"""Edge vectors and lengths, safe in every derivative."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.graph import Graph


def edge_vectors(graph: Graph, positions: Float[Array, "N 3"]) -> Float[Array, "B W 3"]:
    """r_ij = x_j + S·h − x_i for every edge, Å; padded edges are left as they come out."""
    receivers = graph.receivers[:, None]
    cell = graph.cell[graph.node_graph[graph.receivers]]  # (B, 3, 3)
    shifts = jnp.einsum("bws,bsx->bwx", graph.shifts, cell)
    return positions[graph.senders] + shifts - positions[receivers]


def with_dummy_padding(
    graph: Graph, vectors: Float[Array, "B W 3"], length: float
) -> Float[Array, "B W 3"]:
    """Replace padded edges by a constant non-zero vector so that no derivative can be NaN.

    Args:
        graph: gives the edge mask.
        vectors: Å.
        length: of the dummy, Å; beyond the cutoff its envelope is zero as well.
    """
    dummy = jnp.asarray([0.0, 0.6 * length, 0.8 * length], vectors.dtype)
    return jnp.where(graph.edge_mask[..., None], vectors, dummy)


def edge_lengths_and_directions(
    graph: Graph, vectors: Float[Array, "B W 3"], cutoff: float
) -> tuple[Float[Array, "B W"], Float[Array, "B W 3"]]:
    """Lengths (Å) and unit vectors of all edges; padded ones lie beyond the cutoff (Å)."""
    return lengths_and_directions(with_dummy_padding(graph, vectors, 2.0 * cutoff))


def lengths_and_directions(
    vectors: Float[Array, "B W 3"],
) -> tuple[Float[Array, "B W"], Float[Array, "B W 3"]]:
    """Lengths (Å) and unit vectors of non-zero vectors."""
    length = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))
    return length, vectors / length[..., None]
