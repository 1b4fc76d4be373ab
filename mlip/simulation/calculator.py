"""`MLIPCalculator`: a `Potential` as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.stress import full_3x3_to_voigt_6_stress

from mlip.data.collate import BatchShape, collate, fill_blocks
from mlip.data.neighbors import NeighborList
from mlip.data.structure import Structure
from mlip.graph import Graph
from mlip.simulation.buckets import Buckets
from mlip.simulation.verlet import VerletList

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.potential import Output, Potential


class CompilationRecord(NamedTuple):
    """One compilation of the model.

    Attributes:
        shape: the padded shape it was compiled for.
        reason: why no shape compiled before would do.
        seconds: tracing, compilation and the first evaluation.
    """

    shape: BatchShape
    reason: str
    seconds: float


class _Template:
    """The padded graph of one composition, of which only positions, cell and edges change."""

    def __init__(self, structure: Structure, shape: BatchShape, graph: Graph) -> None:
        self._numbers = structure.numbers
        self._charge, self._spin = structure.charge, structure.spin
        self._shape = shape
        self._dtype = graph.positions.dtype
        with jax.enable_x64(True):  # or float64 arrays would be rounded on their way
            self._graph = jax.device_put(graph)

    def serves(self, structure: Structure, shape: BatchShape) -> bool:
        """Whether `fill` may be called with this structure."""
        return (
            shape == self._shape
            and structure.charge == self._charge
            and structure.spin == self._spin
            and np.array_equal(structure.numbers, self._numbers)
        )

    def fill(self, structure: Structure, neighbors: NeighborList) -> Graph:
        """The graph of a configuration."""
        _, nodes, blocks, width = self._shape
        atoms = len(structure)
        padded = np.zeros((nodes, 3), self._dtype)
        padded[:atoms] = structure.positions - structure.positions.mean(axis=0)
        edges = {
            "receivers": np.full(blocks, nodes - 1, np.int32),
            "senders": np.zeros((blocks, width), np.int32),
            "shifts": np.zeros((blocks, width, 3), self._dtype),
            "edge_mask": np.zeros((blocks, width), bool),
        }
        fill_blocks(edges, neighbors, atoms, 0, 0, width)
        cell = structure.cell[None].astype(self._dtype)
        return self._graph.replace(positions=padded, cell=cell, **edges)


class MLIPCalculator(Calculator):
    """Energy, free_energy, energies, forces and stress of a `Potential`, for ASE.

    One calculator serves any sequence of structures: sizes, cells, periodicity and composition may
    change from call to call. Neighbours come from a list kept for several steps; the model is
    given only the pairs within the cutoff, padded to a shape from a few buckets.

    Units are ASE's: eV, eV/Å, and eV/Å³ for the stress, tensile positive, in the order xx, yy, zz,
    yz, xz, xy. The energy is the total energy: E0 included. `stress` needs periodicity in three
    directions, and forces that are the gradient of the energy.

    Before the model is compiled for a new shape, the logger `mlip` says so and why, as a warning.

    Args:
        potential: what to evaluate.
        skin: how much farther than the cutoff neighbours are searched, Å. A wider skin means
            fewer searches and more pairs to look through in every step.
        shapes: padded shapes known to be needed, e.g. those of a run to be continued.

    Attributes:
        compilations: every compilation this calculator caused.
        shortest: the shortest distance between two atoms of the latest structure, Å.

    Raises:
        MlipError: for a negative skin; and, when a property is asked for, for an element the
            potential does not know, coinciding atoms, non-finite positions or a cell without
            volume.
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress")

    def __init__(
        self, potential: Potential, *, skin: float = 0.5, shapes: Sequence[BatchShape] = ()
    ) -> None:
        super().__init__()
        self.potential = potential
        self.compilations: list[CompilationRecord] = []
        self.shortest = np.inf
        self._list = VerletList(potential.cutoff, skin)
        self._buckets = Buckets(shapes)
        self._template: _Template | None = None

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """The padded shapes in use."""
        return tuple(self._buckets.shapes)

    @property
    def searches(self) -> int:
        """How many neighbour searches there were."""
        return self._list.searches

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What changed since the last calculation, in what the potential can see."""
        if self.atoms is None:
            return [*all_changes]
        now, then = _visible(atoms), _visible(self.atoms)
        return [name for name in now if not np.array_equal(now[name], then[name])]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; called by ASE whenever the atoms differ from those of the last call."""
        if atoms is not None:
            self.atoms = atoms.copy()
        if "stress" in properties and self.potential.direct_forces:
            raise PropertyNotImplementedError(
                "the forces of this potential are not the gradient of its energy, so that there "
                "is no stress; train with model.forces=gradient."
            )
        if "stress" in properties and not np.all(self.atoms.pbc):
            raise PropertyNotImplementedError(
                "stress is defined only with periodic boundaries in three directions; these atoms "
                f"have pbc={self.atoms.pbc.tolist()}."
            )
        structure = Structure.from_atoms(self.atoms)
        output = self._evaluate(structure)
        (prediction,) = self.potential.unpack(output, [structure])
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.energies,
            "forces": prediction.forces,
        }
        if prediction.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)

    def _evaluate(self, structure: Structure) -> Output:
        neighbors, self.shortest = self._list.update(structure)
        counts = np.bincount(neighbors.receivers, minlength=len(structure))
        shape, reason = self._buckets.fit(counts)
        graph = self._graph(structure, neighbors, shape)
        reason = reason or "first use of a shape given to the calculator"
        before = len(self.potential.compilations)
        output = self.potential.evaluate_graph(graph, reason)
        for compilation in self.potential.compilations[before:]:
            self.compilations.append(CompilationRecord(shape, reason, compilation.seconds))
        return output

    def _graph(self, structure: Structure, neighbors: NeighborList, shape: BatchShape) -> Graph:
        """The padded graph; arrays that only depend on the composition are reused."""
        if self._template is None or not self._template.serves(structure, shape):
            empty = NeighborList(*(part[:0] for part in neighbors))
            graph = collate(
                [structure], [empty], self.potential.elements, shape, self.potential.dtype
            )
            self._template = _Template(structure, shape, graph)
        return self._template.fill(structure, neighbors)


def _visible(atoms: Atoms) -> dict[str, Any]:
    return {
        "positions": atoms.positions,
        "numbers": atoms.numbers,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "info": [atoms.info.get("charge", 0.0), atoms.info.get("spin", 0.0)],
    }
