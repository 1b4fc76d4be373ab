"""Attention over the neighbours of each atom: the score's nonlinearity and a safe softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mlip.graph import Graph


def smooth_leaky_relu(x: Float[Array, "..."], slope: float = 0.2) -> Float[Array, "..."]:
    """Leaky ReLU with a smooth bend: (1+a)/2 x + (1−a)/2 x (2σ(x) − 1).

    Args:
        x: any shape.
        slope: a, for large negative x.

    Source: Liao and Smidt, ICLR 2023.
    """
    return 0.5 * (1.0 + slope) * x + 0.5 * (1.0 - slope) * x * (2.0 * jax.nn.sigmoid(x) - 1.0)


def neighbor_softmax(
    scores: Float[Array, "B W heads"],
    envelope: Float[Array, "B W"],
    graph: Graph,
    *,
    empty_weight: float,
) -> Float[Array, "B W heads"]:
    """Softmax over the edges into each atom, each exponential multiplied by an envelope.

        a_ij = u_ij exp(s_ij) / (c + Σ_k u_ik exp(s_ik))

    With c = 0 and u = 1 this is the plain softmax. With c > 0, as if there were one more place to
    look at, and nothing there, a_ij vanishes with u_ij however few neighbours there are; with
    c = 0 the only neighbour keeps a weight of one until it is gone, and two that leave together
    divide zero by zero. Atoms without neighbours get no weights at all, and padded edges zero.

    Args:
        scores: s, of any size: the largest of an atom is subtracted before the exponential.
        envelope: u ≥ 0, zero on padded edges.
        graph: gives receivers and edge mask.
        empty_weight: c ≥ 0.
    """
    # Not those of a kept neighbour list beyond the cutoff, either: they must change nothing.
    counts = (graph.edge_mask & (envelope > 0))[..., None]
    scores = jnp.where(counts, scores, jnp.zeros_like(scores))
    highest = _highest(jax.lax.stop_gradient(scores), counts, graph)
    if empty_weight > 0:
        highest = jnp.maximum(highest, jnp.zeros_like(highest))
    shifted = scores - highest[graph.receivers][:, None]
    # An edge that does not count keeps a zero score, perhaps far above the largest of an atom.
    shifted = jnp.where(counts, shifted, jnp.zeros_like(shifted))
    exponentials = envelope[..., None] * jnp.exp(shifted)
    total = jax.ops.segment_sum(
        exponentials.sum(axis=1), graph.receivers, graph.num_nodes, indices_are_sorted=True
    )
    if empty_weight > 0:
        total = total + empty_weight * jnp.exp(-highest)
    total = jnp.where(total > 0, total, jnp.ones_like(total))
    return exponentials / total[graph.receivers][:, None]


def _highest(
    scores: Float[Array, "B W heads"], counts: Bool[Array, "B W 1"], graph: Graph
) -> Float[Array, "N heads"]:
    """Largest score over those edges into each atom that count; 0 without one."""
    lowest = jnp.full_like(scores, -jnp.inf)
    masked = jnp.where(counts, scores, lowest).max(axis=1)
    found = jax.ops.segment_max(masked, graph.receivers, graph.num_nodes, indices_are_sorted=True)
    return jnp.where(jnp.isfinite(found), found, jnp.zeros_like(found))
