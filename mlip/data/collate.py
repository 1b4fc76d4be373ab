"""From structures and neighbour lists to padded arrays, and from these to a `Graph`.

Only the last step touches JAX types, and only it imports them: worker processes that make the
arrays do without JAX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlip.data.neighbors import NeighborList
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.graph import Graph, Labels


class BatchShape(NamedTuple):
    """The static shape of a batch: one compilation each.

    Attributes:
        graphs: structures.
        nodes: atoms.
        blocks: blocks of edges (see `mlip.graph.Graph`).
        width: edges per block.
    """

    graphs: int
    nodes: int
    blocks: int
    width: int


def count_blocks(neighbors: NeighborList, num_atoms: int, width: int) -> int:
    """Blocks of `width` edges that a structure needs: Σ_i ceil(n_i / width)."""
    counts = np.bincount(neighbors.receivers, minlength=num_atoms)
    return int(np.sum(-(-counts // width)))


def species_index(structure: Structure, elements: Sequence[int]) -> np.ndarray:
    """Position of each atom's element in `elements`, int32, shape (n,).

    Raises:
        MlipError: for an element that is not among `elements`.
    """
    lookup = np.full(120, -1, dtype=np.int32)
    lookup[np.asarray(elements)] = np.arange(len(elements))
    index = lookup[structure.numbers]
    if np.any(index < 0):
        from ase.data import chemical_symbols

        unknown = sorted({chemical_symbols[z] for z in structure.numbers[index < 0]})
        known = " ".join(chemical_symbols[z] for z in elements)
        raise MlipError(
            f"{structure.identifier}: element {' '.join(unknown)} is not known to this model, "
            f"which knows {known}; train a model on data that contains it."
        )
    return index


def collate(
    structures: Sequence[Structure],
    neighbors: Sequence[NeighborList],
    elements: Sequence[int],
    shape: BatchShape,
    dtype: np.dtype | type = np.float32,
) -> Graph:
    """Pack structures into one padded graph; see `graph_arrays`."""
    from mlip.graph import Graph

    return Graph(**graph_arrays(structures, neighbors, elements, shape, dtype))


def graph_arrays(
    structures: Sequence[Structure],
    neighbors: Sequence[NeighborList],
    elements: Sequence[int],
    shape: BatchShape,
    dtype: np.dtype | type = np.float32,
) -> dict[str, Any]:
    """Pack structures into the arrays of one padded graph, by the names of `Graph`'s attributes.

    Positions are stored relative to each structure's centroid, taken in float64, so that single
    precision loses nothing for atoms far from the origin.

    Args:
        structures: at most `shape.graphs`.
        neighbors: their neighbour lists.
        elements: atomic numbers in the order of the model's species index.
        shape: the static shape to fill.
        dtype: floating-point type of the graph.

    Raises:
        MlipError: for an unknown element or when the shape is too small.
    """
    graph = _empty_graph(shape, np.dtype(dtype))
    node = block = 0
    for g, (structure, pairs) in enumerate(zip(structures, neighbors, strict=True)):
        n = len(structure)
        needed = count_blocks(pairs, n, shape.width)
        if g >= shape.graphs or node + n > shape.nodes or block + needed > shape.blocks:
            raise MlipError(f"{structure.identifier} does not fit into a batch of {shape}.")
        atoms = slice(node, node + n)
        graph["positions"][atoms] = structure.positions - structure.positions.mean(axis=0)
        graph["species"][atoms] = species_index(structure, elements)
        graph["node_graph"][atoms] = g
        graph["node_mask"][atoms] = True
        fill_blocks(graph, pairs, n, node, block, shape.width)
        graph["cell"][g] = structure.cell
        graph["num_atoms"][g] = n
        graph["charge"][g] = structure.charge
        graph["spin"][g] = structure.spin
        graph["graph_mask"][g] = True
        node += n
        block += needed
    return graph


def collate_labels(
    structures: Sequence[Structure],
    e0: Mapping[int, float],
    shape: BatchShape,
    dtype: np.dtype | type = np.float32,
    *,
    mask_fixed: bool = False,
) -> Labels:
    """The labels of a batch; see `label_arrays`."""
    from mlip.graph import Labels

    return Labels(**label_arrays(structures, e0, shape, dtype, mask_fixed=mask_fixed))


def label_arrays(
    structures: Sequence[Structure],
    e0: Mapping[int, float],
    shape: BatchShape,
    dtype: np.dtype | type = np.float32,
    *,
    mask_fixed: bool = False,
) -> dict[str, Any]:
    """The labels of a batch, by the names of `Labels`' attributes.

    E0 is subtracted in float64 before the cast.

    Args:
        structures: in the order given to `collate`.
        e0: energy of the isolated atom by atomic number, eV.
        shape: the static shape to fill.
        dtype: floating-point type of the labels.
        mask_fixed: give no weight to the forces of atoms that a constraint holds in place.
    """
    graphs, nodes = shape.graphs, shape.nodes
    energy, energy_weight = np.zeros(graphs), np.zeros(graphs)
    forces, forces_weight = np.zeros((nodes, 3)), np.zeros(nodes)
    stress, stress_weight = np.zeros((graphs, 3, 3)), np.zeros(graphs)
    node = 0
    for g, structure in enumerate(structures):
        atoms = slice(node, node + len(structure))
        if structure.energy is not None:
            energy[g] = structure.energy - sum(e0[int(z)] for z in structure.numbers)
            energy_weight[g] = structure.weight
        if structure.forces is not None:
            forces[atoms] = structure.forces
            forces_weight[atoms] = structure.weight
            if mask_fixed and structure.fixed is not None:
                forces_weight[atoms][structure.fixed] = 0.0
        if structure.stress is not None:
            stress[g] = structure.stress
            stress_weight[g] = structure.weight
        node += len(structure)
    labels = {
        "energy": energy,
        "forces": forces,
        "stress": stress,
        "energy_weight": energy_weight,
        "forces_weight": forces_weight,
        "stress_weight": stress_weight,
    }
    return {name: value.astype(dtype) for name, value in labels.items()}


def _empty_graph(shape: BatchShape, dtype: np.dtype) -> dict[str, Any]:
    graphs, nodes, blocks, width = shape
    return {
        "positions": np.zeros((nodes, 3), dtype),
        "species": np.zeros(nodes, np.int32),
        "node_graph": np.full(nodes, graphs - 1, np.int32),
        "node_mask": np.zeros(nodes, bool),
        "receivers": np.full(blocks, nodes - 1, np.int32),
        "senders": np.zeros((blocks, width), np.int32),
        "shifts": np.zeros((blocks, width, 3), dtype),
        "edge_mask": np.zeros((blocks, width), bool),
        "cell": np.zeros((graphs, 3, 3), dtype),
        "num_atoms": np.zeros(graphs, dtype),
        "charge": np.zeros(graphs, dtype),
        "spin": np.zeros(graphs, dtype),
        "graph_mask": np.zeros(graphs, bool),
    }


def fill_blocks(
    graph: dict[str, np.ndarray],
    pairs: NeighborList,
    num_atoms: int,
    node: int,
    block: int,
    width: int,
) -> None:
    """Write one structure's edges, the first atom at `node` and the first block at `block`."""
    counts = np.bincount(pairs.receivers, minlength=num_atoms)
    blocks = -(-counts // width)
    first_block = np.cumsum(blocks) - blocks + block
    first_edge = np.cumsum(counts) - counts
    slots = np.arange(len(pairs.receivers)) + np.repeat(first_block * width - first_edge, counts)
    total = int(blocks.sum())
    graph["receivers"][block : block + total] = np.repeat(np.arange(num_atoms) + node, blocks)
    graph["senders"].reshape(-1)[slots] = pairs.senders + node
    graph["shifts"].reshape(-1, 3)[slots] = pairs.shifts
    graph["edge_mask"].reshape(-1)[slots] = True
