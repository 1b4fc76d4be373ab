"""From a model to energies, forces and stresses, in the units of chemistry."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mlip.data.collate import BatchShape, collate, count_blocks, species_index
from mlip.data.neighbors import NeighborList, neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.graph import Graph
from mlip.nn.geometry import edge_vectors

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.simulation.calculator import MLIPCalculator

logger = logging.getLogger(__name__)

Precision = Literal["float32", "float64"]


class Output(NamedTuple):
    """What a model says of a `Graph`, on the device; padding is zero.

    Attributes:
        node_energy: interaction energy of each atom (without E0), eV, shape (N,).
        energy: interaction energy of each structure, eV, shape (G,).
        forces: eV/Å, shape (N, 3); `None` where only energies were asked for.
        stress: eV/Å³, tensile positive, shape (G, 3, 3); zero without a cell, `None` of a model
            with direct forces, and where only energies were asked for.
    """

    node_energy: Float[Array, "N"]
    energy: Float[Array, "G"]
    forces: Float[Array, "N 3"] | None
    stress: Float[Array, "G 3 3"] | None


class Prediction(NamedTuple):
    """What a potential says of one structure, on the host in float64.

    Attributes:
        energy: total energy, E0 included, eV.
        energies: per-atom energies, E0 included, eV, shape (n,).
        forces: eV/Å, shape (n, 3); `None` where only energies were asked for.
        stress: eV/Å³, tensile positive, shape (3, 3); `None` unless periodic in three directions,
            of a potential with direct forces, and where only energies were asked for.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray | None
    stress: np.ndarray | None


class Compilation(NamedTuple):
    """One compilation of the potential.

    Attributes:
        shape: the batch shape it was for.
        seconds: time of the first call.
    """

    shape: BatchShape
    seconds: float


def evaluate(model: nnx.Module, graph: Graph, *, energy_only: bool = False) -> Output:
    """Energies, forces = −∂E/∂x and stress = (∂E/∂ε)/V of a batch.

    All follow from the derivatives g_ij = ∂E/∂r_ij by the edge vectors: the force on an atom is the
    sum of g over its incoming edges less the sum over its outgoing ones, and the strain derivative
    is Σ r_ij ⊗ g_ij, symmetrised. A model that says `direct_forces` gives its forces itself, and
    then there is no stress.

    Args:
        model: maps (graph, edge vectors) to per-atom energies.
        graph: a padded batch.
        energy_only: leave out forces and stress, and with them the derivative.
    """
    vectors = edge_vectors(graph, graph.positions)
    if energy_only:
        node_energy = model(graph, vectors)
        return Output(node_energy, _sum_atoms(graph, node_energy), None, None)
    if has_direct_forces(model):
        node_energy, forces = model.energy_and_forces(graph, vectors)
        return Output(node_energy, _sum_atoms(graph, node_energy), forces, None)

    def total_energy(r: Float[Array, "B W 3"]) -> tuple[Float[Array, ""], Float[Array, "N"]]:
        node_energy = model(graph, r)
        return jnp.sum(node_energy), node_energy

    gradient, node_energy = jax.grad(total_energy, has_aux=True)(vectors)
    gradient = jnp.where(graph.edge_mask[..., None], gradient, jnp.zeros_like(gradient))
    energy = _sum_atoms(graph, node_energy)
    return Output(node_energy, energy, _forces(graph, gradient), _stress(graph, vectors, gradient))


def has_direct_forces(model: nnx.Module) -> bool:
    """Whether a model gives forces as an output of its own, not as gradient of its energy."""
    return bool(getattr(model, "direct_forces", False))


def _sum_atoms(graph: Graph, node_energy: Float[Array, "N"]) -> Float[Array, "G"]:
    return jax.ops.segment_sum(node_energy, graph.node_graph, graph.num_graphs)


def _forces(graph: Graph, gradient: Float[Array, "B W 3"]) -> Float[Array, "N 3"]:
    nodes = graph.num_nodes
    incoming = jax.ops.segment_sum(gradient.sum(axis=1), graph.receivers, nodes)
    outgoing = jax.ops.segment_sum(gradient.reshape(-1, 3), graph.senders.reshape(-1), nodes)
    return incoming - outgoing


def _stress(
    graph: Graph, vectors: Float[Array, "B W 3"], gradient: Float[Array, "B W 3"]
) -> Float[Array, "G 3 3"]:
    virial = jnp.einsum("bwx,bwy->bxy", vectors, gradient)
    graph_of_block = graph.node_graph[graph.receivers]
    virial = jax.ops.segment_sum(virial, graph_of_block, graph.num_graphs)
    virial = 0.5 * (virial + jnp.swapaxes(virial, 1, 2))
    a, b, c = graph.cell[:, 0], graph.cell[:, 1], graph.cell[:, 2]
    volume = jnp.abs(jnp.sum(a * jnp.cross(b, c), axis=-1))[:, None, None]
    has_cell = volume > 0
    safe = jnp.where(has_cell, volume, jnp.ones_like(volume))
    return jnp.where(has_cell, virial / safe, jnp.zeros_like(virial))


@partial(jax.jit, static_argnames=("graphdef", "energy_only"))
def _evaluate_state(
    graphdef: nnx.GraphDef, state: nnx.State, graph: Graph, energy_only: bool
) -> Output:
    return evaluate(nnx.merge(graphdef, state), graph, energy_only=energy_only)


class Potential:
    """A model with its weights and all that is needed to use it.

    Args:
        model: maps (graph, edge vectors) to per-atom interaction energies.
        elements: atomic numbers in the order of the model's species index.
        e0: energy of the isolated atom by atomic number, eV.
        precision: "float32" or "float64".
        metadata: provenance, kept in the saved file.

    Raises:
        MlipError: if an element has no E0.
    """

    def __init__(
        self,
        model: nnx.Module,
        *,
        elements: Sequence[int],
        e0: Mapping[int, float],
        precision: Precision = "float32",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        missing = [z for z in elements if z not in e0]
        if missing:
            raise MlipError(f"no E0 for the elements with atomic numbers {missing}; give one each.")
        self.elements = tuple(int(z) for z in elements)
        self.e0 = {int(z): float(e0[z]) for z in elements}
        self.precision: Precision = precision
        self.metadata = dict(metadata or {})
        self.config: Any = model.config
        self.direct_forces = has_direct_forces(model)
        self.compilations: list[Compilation] = []
        self._graphdef, self._state = nnx.split(model)
        self._seen: set[tuple[BatchShape, bool]] = set()  # compiled for, and for energies alone

    def __repr__(self) -> str:
        from ase.data import chemical_symbols

        symbols = " ".join(chemical_symbols[z] for z in self.elements)
        return (
            f"Potential({self.config.name}, {self.num_parameters:,} parameters, cutoff "
            f"{self.cutoff} Å, elements {symbols}, {self.precision}"
            f"{', direct forces' if self.direct_forces else ''})"
        )

    @property
    def model(self) -> nnx.Module:
        """The model with its weights, as a module."""
        return nnx.merge(self._graphdef, self._state)

    @property
    def cutoff(self) -> float:
        """Radius within which atoms see each other, Å."""
        return float(self.config.cutoff)

    @property
    def dtype(self) -> np.dtype:
        """Floating-point type of the model."""
        return np.dtype(self.precision)

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        params = nnx.filter_state(self._state, nnx.Param)
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    def with_state(self, state: nnx.State) -> Potential:
        """The same potential with other weights."""
        model = nnx.merge(self._graphdef, state)
        return Potential(
            model,
            elements=self.elements,
            e0=self.e0,
            precision=self.precision,
            metadata=self.metadata,
        )

    def evaluate_graph(
        self,
        graph: Graph,
        reason: str = "first batch of this shape",
        *,
        energy_only: bool = False,
    ) -> Output:
        """Evaluate a batch, compiling once for each shape; the results stay on the device.

        A compilation is announced as a warning of the logger `mlip`, which Python shows on
        standard error unless told otherwise: `logging.getLogger("mlip").setLevel("ERROR")`.

        Args:
            graph: the batch.
            reason: why there is a batch of this shape, told when it has to be compiled for.
            energy_only: leave out forces and stress, and with them the derivative.
        """
        shape = BatchShape(graph.num_graphs, graph.num_nodes, *graph.senders.shape)
        if (shape, energy_only) in self._seen:
            return self._evaluate(graph, energy_only)
        size = f"{shape.nodes} atoms and {shape.blocks}x{shape.width} edges"
        logger.warning("compiling %s for %s (%s) …", self.config.name, size, reason)
        start = time.perf_counter()
        output = jax.block_until_ready(self._evaluate(graph, energy_only))
        seconds = time.perf_counter() - start
        self._seen.add((shape, energy_only))
        self.compilations.append(Compilation(shape, seconds))
        logger.info("… took %.1f s", seconds)
        return output

    def _evaluate(self, graph: Graph, energy_only: bool) -> Output:
        with jax.enable_x64(self.precision == "float64" or jax.config.jax_enable_x64):
            return _evaluate_state(self._graphdef, self._state, graph, energy_only)

    def predict(
        self,
        structures: Sequence[Atoms | Structure],
        batch_size: int = 16,
        *,
        energy_only: bool = False,
    ) -> list[Prediction]:
        """Energies, forces and stresses of many structures, in batches of few shapes.

        Args:
            structures: ASE atoms or `Structure`s; any labels they carry are ignored.
            batch_size: structures evaluated at once.
            energy_only: leave out forces and stress, and with them the derivative.

        Raises:
            MlipError: for an element the model does not know, or a `batch_size` below one.
        """
        if batch_size < 1:
            raise MlipError(f"batch_size={batch_size}: expected at least one structure at once.")
        items = [_as_structure(item, index) for index, item in enumerate(structures)]
        for item in items:
            species_index(item, self.elements)
        lists = [neighbor_list(item, self.cutoff) for item in items]
        order = sorted(range(len(items)), key=lambda k: len(lists[k].receivers), reverse=True)
        predictions: dict[int, Prediction] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch, pairs = [items[k] for k in chosen], [lists[k] for k in chosen]
            wanted = bucket_shape(batch, pairs, batch_size)
            shape = self._compiled_or(wanted, len(batch), energy_only)
            graph = collate(batch, pairs, self.elements, shape, self.dtype)
            output = self.evaluate_graph(graph, energy_only=energy_only)
            predictions.update(zip(chosen, self.unpack(output, batch), strict=True))
        return [predictions[k] for k in range(len(items))]

    def _compiled_or(self, wanted: BatchShape, structures: int, energy_only: bool) -> BatchShape:
        """A compiled shape that holds `wanted`, if padding costs less than compiling anew."""
        # The incomplete last batch may be padded freely: it is evaluated once.
        most = 2 * wanted.nodes if structures == wanted.graphs else np.inf
        fitting = [
            shape
            for shape, without_derivative in self._seen
            if without_derivative == energy_only
            and (shape.graphs, shape.width) == (wanted.graphs, wanted.width)
            and wanted.nodes <= shape.nodes <= most
            and wanted.blocks <= shape.blocks
        ]
        return min(fitting, default=wanted)

    def unpack(self, output: Output, structures: Sequence[Structure]) -> list[Prediction]:
        """Split a batch's output by structure, sums and E0 in float64."""
        node_energy = np.asarray(output.node_energy, dtype=np.float64)
        forces, stress = (
            None if value is None else np.asarray(value, dtype=np.float64)
            for value in (output.forces, output.stress)
        )
        predictions, node = [], 0
        for g, structure in enumerate(structures):
            atoms = slice(node, node + len(structure))
            energies = node_energy[atoms] + [self.e0[int(z)] for z in structure.numbers]
            known = None if stress is None or not np.all(structure.pbc) else stress[g]
            own = None if forces is None else forces[atoms]
            predictions.append(Prediction(float(energies.sum()), energies, own, known))
            node += len(structure)
        return predictions

    def calculator(self, **options: Any) -> MLIPCalculator:
        """An ASE calculator; `options` are those of `mlip.simulation.calculator.MLIPCalculator`."""
        # The one import that points up a layer: a method users expect here.
        from mlip.simulation.calculator import MLIPCalculator

        return MLIPCalculator(self, **options)


def bucket_shape(
    structures: Sequence[Structure],
    neighbors: Sequence[NeighborList],
    graphs: int,
    width: int = 8,
    growth: float = 1.25,
) -> BatchShape:
    """The smallest shape of a geometric series that holds the structures.

    Args:
        structures: of one batch.
        neighbors: their neighbour lists.
        graphs: structures of a full batch.
        width: edges per block.
        growth: ratio of neighbouring sizes.
    """
    nodes = sum(len(structure) for structure in structures)
    blocks = sum(
        count_blocks(pairs, len(structure), width)
        for structure, pairs in zip(structures, neighbors, strict=True)
    )
    return BatchShape(graphs, next_size(nodes, growth), next_size(blocks, growth), width)


def next_size(needed: int, growth: float = 1.25, smallest: int = 8) -> int:
    """The first member ≥ `needed` of smallest, smallest·growth, … rounded up to multiples of 8."""
    size = smallest
    while size < needed:
        size = max(size + 8, int(-(-size * growth // 8)) * 8)
    return size


def _as_structure(item: Atoms | Structure, index: int) -> Structure:
    return item if isinstance(item, Structure) else Structure.from_atoms(item, f"structure {index}")
