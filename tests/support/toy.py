"""A Lennard-Jones model with the signature of every model: a physical stand-in that is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.potential import Potential, Precision
from mlip.settings import Settings


class LennardJonesConfig(Settings):
    """Parameters of `LennardJones`; `onset` is where the smooth cutoff begins, Å."""

    name: Literal["lennard_jones"] = "lennard_jones"
    elements: tuple[int, ...] = (18,)
    cutoff: float = 6.0
    onset: float = 3.96
    epsilon: float = 0.0104
    sigma: float = 3.4


class LennardJones(nnx.Module):
    """Pair energies 4ε((σ/r)¹² − (σ/r)⁶) f(r²), halved between the two atoms.

    f is the C¹ cutoff function in r² that ASE's `LennardJones(smooth=True)` uses too.
    ε and σ are trainable, one of each per element, averaged over the pair.
    """

    def __init__(self, config: LennardJonesConfig, *, dtype: jnp.dtype) -> None:
        self.config = config
        count = len(config.elements)
        self.epsilon = nnx.Param(jnp.full((count,), config.epsilon, dtype))
        self.sigma = nnx.Param(jnp.full((count,), config.sigma, dtype))

    def __call__(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Float[Array, "N"]:
        """Interaction energy of each atom, eV."""
        squares = jnp.sum(vectors**2, axis=-1)
        squares = jnp.where(graph.edge_mask, squares, jnp.ones_like(squares))
        epsilon, sigma = self.epsilon[...][graph.species], self.sigma[...][graph.species]
        receiver, sender = graph.receivers, graph.senders
        depth = (epsilon[receiver][:, None] + epsilon[sender]) / 2
        size = (sigma[receiver][:, None] + sigma[sender]) / 2
        sixth = (size**2 / squares) ** 3
        energy = 4 * depth * (sixth**2 - sixth) * self._cutoff(squares)
        energy = jnp.where(graph.edge_mask, energy, jnp.zeros_like(energy))
        halves = jnp.sum(energy, axis=1) / 2
        return jax.ops.segment_sum(halves, receiver, graph.num_nodes)

    def _cutoff(self, squares: Float[Array, "B W"]) -> Float[Array, "B W"]:
        outer, inner = self.config.cutoff**2, self.config.onset**2
        smooth = (outer - squares) ** 2 * (outer + 2 * squares - 3 * inner) / (outer - inner) ** 3
        beyond = jnp.where(squares < outer, smooth, jnp.zeros_like(smooth))
        return jnp.where(squares < inner, jnp.ones_like(smooth), beyond)


def lennard_jones_potential(
    config: LennardJonesConfig,
    *,
    e0: Mapping[int, float] | None = None,
    precision: Precision = "float64",
) -> Potential:
    """A `Potential` around `LennardJones`; E0 is zero unless given."""
    model = LennardJones(config, dtype=jnp.dtype(precision))
    values = e0 or dict.fromkeys(config.elements, 0.0)
    return Potential(model, elements=config.elements, e0=values, precision=precision)
