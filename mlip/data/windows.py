"""`Windows`: the batches of a stream, made window by window, in any process and in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from typing import Any, NamedTuple

import numpy as np

from mlip.data import packing
from mlip.data.collate import BatchShape, graph_arrays, label_arrays, species_index
from mlip.data.frames import Frames
from mlip.data.neighbors import NeighborList, neighbor_list
from mlip.data.shapes import shape_of_batch
from mlip.data.shuffle import shuffled
from mlip.data.structure import Structure
from mlip.errors import MlipError

BATCHES_PER_WINDOW = 32
ORDER_KEY, PACKING_KEY = 1, 2  # the order of an epoch and the packing have nothing in common


class Job(NamedTuple):
    """A window to make.

    Attributes:
        epoch: its epoch.
        window: its number in the epoch.
        first: batches of it that are not needed.
    """

    epoch: int
    window: int
    first: int


class HostBatch(NamedTuple):
    """One padded batch as plain arrays.

    Attributes:
        graph: by the names of `Graph`'s attributes.
        labels: by the names of `Labels`' attributes.
        identifiers: names of the structures.
        indices: their positions in the subset.
        skipped: faults of the records that the window lacks, with its first batch.
    """

    graph: dict[str, Any]
    labels: dict[str, Any]
    identifiers: list[str]
    indices: np.ndarray
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """The share of one of several processes that train together.

    Attributes:
        index: of the process.
        count: of processes.
    """

    index: int = 0
    count: int = 1


WHOLE = Shard()


class _Window(NamedTuple):
    """The structures of a window with their neighbour lists and positions."""

    structures: list[Structure]
    neighbors: list[NeighborList]
    positions: np.ndarray
    faults: list[str]

    def take(self, places: np.ndarray) -> _Window:
        """The window with the structures at some places of this one; others are passed over."""
        inside = places[places < len(self.structures)]
        return self._replace(
            structures=[self.structures[place] for place in inside],
            neighbors=[self.neighbors[place] for place in inside],
            positions=self.positions[inside],
        )


@dataclass(frozen=True)
class Windows:
    """Makes the batches of any window of any epoch.

    The epoch's order is a shuffle of all frames. A window is `batches_per_window · batch_size`
    frames that follow each other in it, packed into `batches_per_window` nearly equal batches.
    Everything depends on seed, epoch and window alone. Records that are left out make batches
    smaller, not fewer.

    Attributes:
        frames: what is read.
        cutoff: Å.
        elements: atomic numbers in the order of the model's species index.
        e0: isolated-atom energy by atomic number, eV.
        batch_size: structures in a batch, over all processes that train together.
        dtype: floating-point type of the batches.
        shapes: static shapes in ascending order.
        seed: of shuffling and packing.
        shuffle: draw the batches anew each epoch; otherwise they are always the same.
        shard: of every window, one process takes every `count`-th frame.
        mask_fixed: as in `label_arrays`.
        batches_per_window: more of them pad less and take more memory.
    """

    frames: Frames
    cutoff: float
    elements: tuple[int, ...]
    e0: Mapping[int, float]
    batch_size: int
    dtype: str
    shapes: tuple[BatchShape, ...]
    seed: int
    shuffle: bool
    shard: Shard = WHOLE
    mask_fixed: bool = False
    batches_per_window: int = BATCHES_PER_WINDOW

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.frames) // self.batch_size)

    def batches_in(self, window: int) -> int:
        """Batches of a window; the last may have fewer than the others."""
        before = window * self.batches_per_window
        return min(self.batches_per_window, self.num_batches - before)

    def jobs(self, epoch: int, batch: int, *, endless: bool) -> Iterator[Job]:
        """The windows from a position on, to the end of the epoch or for ever."""
        window, first = divmod(batch, self.batches_per_window)
        for current in count_from(epoch):
            for number in range(window, -(-self.num_batches // self.batches_per_window)):
                yield Job(current, number, first)
                first = 0
            if not endless:
                return
            window = 0

    def make(self, job: Job) -> Iterator[HostBatch]:
        """The batches of a window from the first that is needed.

        Raises:
            MlipError: for a record or file that cannot be used.
        """
        window = self._load(job)
        atoms = [len(structure) for structure in window.structures]
        sizes = packing.measure(atoms, window.neighbors, self.shapes[-1].width)
        generator = np.random.default_rng([PACKING_KEY, *self._key(job.epoch), job.window])
        batches = packing.pack_window(sizes, self.batches_in(job.window), generator)
        for number in range(job.first, len(batches)):
            faults = window.faults if number == 0 else []
            yield self._collate(window, batches[number], sizes, tuple(faults))

    def positions(self, job: Job) -> np.ndarray:
        """Positions in the subset of the frames of a window."""
        size = self.batch_size * self.batches_per_window
        start = job.window * size
        places = np.arange(start, min(start + size, len(self.frames)))
        index, count = self.shard.index, self.shard.count
        if count > 1:
            # A share has at least one frame for each batch, if need be of another share.
            needed = max(len(places[index::count]), self.batches_in(job.window))
            places = places[(index + count * np.arange(needed)) % len(places)]
        return shuffled(places, len(self.frames), [ORDER_KEY, *self._key(job.epoch)])

    def _key(self, epoch: int) -> Sequence[int]:
        return (self.seed, epoch) if self.shuffle else (self.seed, 0)

    def _load(self, job: Job) -> _Window:
        """The frames of a window that can be used; at least one for each of its batches.

        The last window may be so short that none of it is usable: then frames of the one before
        serve.
        """
        window = self._read(job)
        needed, faults = self.batches_in(job.window), window.faults
        if not window.structures and job.window > 0:
            window = self._read(job._replace(window=job.window - 1)).take(np.arange(needed))
        if not window.structures:
            raise MlipError(
                f"all {len(faults)} records of a window of the data are unusable, beginning with "
                f"{faults[0] if faults else 'isolated atoms'}; check the files."
            )
        count = len(window.structures)
        if count < needed:  # some serve twice
            window = window.take(np.resize(np.arange(count), needed))
        return window._replace(faults=faults)

    def _read(self, job: Job) -> _Window:
        """Read the frames of a window; those that cannot be used are left out."""
        neighbors: list[NeighborList] = []

        def check(structure: Structure) -> None:
            self._require_elements(structure)
            neighbors.append(neighbor_list(structure, self.cutoff))

        read = self.frames.read(self.positions(job), job.epoch if self.shuffle else 0)
        read = self.frames.keep(read, check)
        return _Window(read.structures, neighbors, read.positions, read.faults)

    def _require_elements(self, structure: Structure) -> None:
        try:
            species_index(structure, self.elements)
        except MlipError as error:
            raise MlipError(
                f"{error} The elements of streamed data are those of a sample, those with an E0, "
                "and those that files name: for a new run, name them all in dataset.e0 or "
                "dataset.isolated_atoms, or prepare the data, which finds them."
            ) from error

    def _collate(
        self, window: _Window, batch: np.ndarray, sizes: packing.Sizes, skipped: tuple[str, ...]
    ) -> HostBatch:
        structures = [window.structures[index] for index in batch]
        neighbors = [window.neighbors[index] for index in batch]
        shape, dtype = shape_of_batch(batch, sizes, self.shapes), np.dtype(self.dtype)
        return HostBatch(
            graph_arrays(structures, neighbors, self.elements, shape, dtype),
            label_arrays(structures, self.e0, shape, dtype, mask_fixed=self.mask_fixed),
            [structure.identifier for structure in structures],
            window.positions[batch],
            skipped,
        )
