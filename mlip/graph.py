"""`Graph`: an immutable, padded batch of structures as a JAX pytree, and its `Labels`."""

from __future__ import annotations

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


@flax.struct.dataclass
class Graph:
    """A padded batch of atomic structures.

    Edges are kept in *blocks*: a block is a row of `width` edges that all point into the same
    receiving atom. An atom with `n` neighbours owns `ceil(n / width)` consecutive blocks, so the
    sum over neighbours is a dense contraction inside a block followed by a short sorted segment
    sum over blocks. Blocks are sorted by receiver. Padding has a false mask.

    The edge vector points from the receiver `i` to the sender `j`: `r_ij = x_j + S·h − x_i`.

    Shapes: N atoms, B blocks, W edges per block, G structures.

    Attributes:
        positions: Å.
        species: index into the potential's element list (not the atomic number).
        node_graph: index of the structure each atom belongs to, sorted.
        node_mask: true for real atoms.
        receivers: receiving atom of each block, sorted.
        senders: sending atom of each edge.
        shifts: integer cell shifts S of each edge, stored as floats of the batch's precision.
        edge_mask: true for real edges.
        cell: lattice vectors as rows, Å (zeros for a molecule).
        num_atoms: number of real atoms of each structure, as floats.
        charge: total charge, e.
        spin: number of unpaired electrons.
        graph_mask: true for real structures.
    """

    positions: Float[Array, "N 3"]
    species: Int[Array, "N"]
    node_graph: Int[Array, "N"]
    node_mask: Bool[Array, "N"]
    receivers: Int[Array, "B"]
    senders: Int[Array, "B W"]
    shifts: Float[Array, "B W 3"]
    edge_mask: Bool[Array, "B W"]
    cell: Float[Array, "G 3 3"]
    num_atoms: Float[Array, "G"]
    charge: Float[Array, "G"]
    spin: Float[Array, "G"]
    graph_mask: Bool[Array, "G"]

    @property
    def num_nodes(self) -> int:
        """N, padding included."""
        return self.species.shape[-1]

    @property
    def num_graphs(self) -> int:
        """G, padding included."""
        return self.graph_mask.shape[-1]

    def __repr__(self) -> str:
        blocks, width = self.senders.shape[-2:]
        dtype = jnp.asarray(self.positions).dtype
        return (
            f"Graph({self.num_graphs} structures, {self.num_nodes} atoms, "
            f"{blocks}x{width} edges, padding included, {dtype})"
        )


@flax.struct.dataclass
class Labels:
    """Reference values of a `Graph`; a weight of zero marks a missing or masked label.

    Shapes as in `Graph`.

    Attributes:
        energy: interaction energy, i.e. the total energy minus the sum of E0, eV.
        forces: eV/Å.
        stress: eV/Å³, tensile positive.
        energy_weight: weight of each energy.
        forces_weight: weight of each atom's force.
        stress_weight: weight of each stress.
    """

    energy: Float[Array, "G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]
    energy_weight: Float[Array, "G"]
    forces_weight: Float[Array, "N"]
    stress_weight: Float[Array, "G"]


def bare_graph(
    receivers: Int[np.ndarray, "B"], senders: Int[np.ndarray, "B W"], num_nodes: int
) -> Graph:
    """Edges alone, as an operator by itself sees them; all else is zero.

    Args:
        receivers: receiving atom of each block, sorted.
        senders: sending atom of each edge.
        num_nodes: number of atoms N.
    """
    return Graph(
        positions=jnp.zeros((num_nodes, 3)),
        species=jnp.zeros(num_nodes, jnp.int32),
        node_graph=jnp.zeros(num_nodes, jnp.int32),
        node_mask=jnp.ones(num_nodes, bool),
        receivers=jnp.asarray(receivers, jnp.int32),
        senders=jnp.asarray(senders, jnp.int32),
        shifts=jnp.zeros((*senders.shape, 3)),
        edge_mask=jnp.ones(senders.shape, bool),
        cell=jnp.zeros((1, 3, 3)),
        num_atoms=jnp.full(1, float(num_nodes)),
        charge=jnp.zeros(1),
        spin=jnp.zeros(1),
        graph_mask=jnp.ones(1, bool),
    )
