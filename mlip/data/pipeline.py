"""`Batches`: the deterministic, resumable stream of padded batches of an in-memory data set."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlip.data import packing
from mlip.data.collate import BatchShape, collate, collate_labels, species_index
from mlip.data.neighbors import neighbor_list
from mlip.data.prefetch import prefetched
from mlip.data.shapes import choose_shapes, choose_width, padding, smallest_fitting
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.graph import Graph, Labels


class Batch(NamedTuple):
    """One padded batch with host arrays.

    Attributes:
        graph: the structures.
        labels: their labels; zero weight where a structure has none.
        identifiers: names of the structures, in the order of the graph.
        indices: their positions in the data set, shape (number of structures,).
        skipped: faults of records that were left out before this batch.
    """

    graph: Graph
    labels: Labels
    identifiers: list[str]
    indices: np.ndarray
    skipped: tuple[str, ...] = ()


class Batches:
    """Batches of structures held in memory; neighbour lists are computed once, here.

    The batches of an epoch depend on the seed and the epoch alone. Each structure occurs once per
    epoch; batches hold `batch_size` structures, or one fewer where the number does not divide.

    Args:
        structures: at least one.
        cutoff: Å.
        elements: atomic numbers in the order of the model's species index.
        e0: isolated-atom energy by atomic number, eV.
        batch_size: most structures in a batch.
        dtype: floating-point type of the batches.
        seed: of the shuffling.
        shuffle: draw the batches anew each epoch; otherwise they are always the same.
        shapes: static shapes in ascending order, for example those of other batches; chosen from
            the data if not given.
        mask_fixed: give no weight to the forces of atoms that a constraint holds in place.

    Attributes:
        structures: as given.
        neighbors: their neighbour lists.
        shapes: static shapes of the batches, in ascending order.
        padding: share of padding in the first epoch.

    Raises:
        MlipError: for no structures, an unknown element, coinciding atoms, or shapes too small.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        *,
        cutoff: float,
        elements: Sequence[int],
        e0: Mapping[int, float],
        batch_size: int,
        dtype: np.dtype | type | str = np.float32,
        seed: int = 0,
        shuffle: bool = True,
        shapes: Sequence[BatchShape] | None = None,
        mask_fixed: bool = False,
    ) -> None:
        if not structures:
            raise MlipError("no structures to make batches of.")
        for structure in structures:
            species_index(structure, elements)  # raises for an unknown element
        self.structures = structures
        self.neighbors = [neighbor_list(structure, cutoff) for structure in structures]
        self._elements = tuple(elements)
        self._e0 = e0
        self._dtype = np.dtype(dtype)
        self._seed = seed
        self._shuffle = shuffle
        self._mask_fixed = mask_fixed
        atoms = [len(structure) for structure in structures]
        if shapes is None:
            counts = packing.neighbor_counts(atoms, self.neighbors)
            width = choose_width(counts)
        else:
            width = shapes[-1].width
        self._sizes = packing.measure(atoms, self.neighbors, width)
        self._strata = packing.stratify(self._sizes, -(-len(structures) // batch_size))
        self._fixed = packing.arrange(self._strata, self._sizes)
        if shapes is None:
            shapes = choose_shapes(self._strata, self._sizes, self._fixed, width, shuffle=shuffle)
        self.shapes = list(shapes)
        for batch in packing.members(self._fixed):
            smallest_fitting(batch, self._sizes, self.shapes)  # raises if too large
        self.padding = padding(self.indices(0), self._sizes, self.shapes)

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._strata[0])

    def __repr__(self) -> str:
        return (
            f"Batches({len(self.structures)} structures in {len(self)} batches, "
            f"{len(self.shapes)} batch shape(s), padding: {self.padding.edges:.0%} of edges, "
            f"{self.padding.atoms:.0%} of atoms)"
        )

    @property
    def padding_share(self) -> float:
        """Share of the edge slots that is padding."""
        return self.padding.edges

    def indices(self, epoch: int) -> list[np.ndarray]:
        """Positions of the structures in each batch of an epoch."""
        if not self._shuffle:
            return packing.members(self._fixed)
        generator = np.random.default_rng([self._seed, epoch])
        largest = self.shapes[-1]
        limit = np.array([largest.blocks, largest.nodes])
        return packing.members(
            packing.draw(self._strata, self._sizes, limit, self._fixed, generator)
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; made ahead by a background thread."""
        return prefetched(self._make(indices) for indices in self.indices(epoch)[start:])

    def stream(self, epoch: int, start: int = 0) -> Generator[tuple[Batch, bool], None, None]:
        """The batches from a position on, epoch after epoch, each with whether it ends one."""
        for current in count(epoch):
            for number, batch in enumerate(self.epoch(current, start), start + 1):
                yield batch, number == len(self)
            start = 0

    def _make(self, indices: np.ndarray) -> Batch:
        structures = [self.structures[i] for i in indices]
        neighbors = [self.neighbors[i] for i in indices]
        shape = smallest_fitting(indices, self._sizes, self.shapes)
        return Batch(
            collate(structures, neighbors, self._elements, shape, self._dtype),
            collate_labels(structures, self._e0, shape, self._dtype, mask_fixed=self._mask_fixed),
            [structure.identifier for structure in structures],
            indices,
        )
