"""`StreamedBatches`: the deterministic, resumable stream of batches of a data set of any size."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import numpy as np

from mlip.data import packing
from mlip.data.frames import Frames
from mlip.data.neighbors import neighbor_list
from mlip.data.pipeline import Batch
from mlip.data.shapes import choose_width, choose_window_shapes
from mlip.data.structure import Structure
from mlip.data.windows import BATCHES_PER_WINDOW, WHOLE, HostBatch, Shard, Windows
from mlip.data.worker_pool import from_workers
from mlip.errors import MlipError

MAX_WORKERS = 4  # chosen without being asked


class StreamedBatches:
    """Batches of structures that are read, and whose neighbour lists are computed, on the way.

    The batches of an epoch depend on the seed and the epoch alone, not on the number of workers.
    Each frame occurs once per epoch; batches hold `batch_size` structures, fewer where records are
    left out or at the end of an epoch.

    Args:
        frames: the subset.
        sample: some of its structures, from which the shapes are chosen.
        cutoff: Å.
        elements: atomic numbers in the order of the model's species index.
        e0: isolated-atom energy by atomic number, eV.
        batch_size: most structures in a batch, over all processes that train together.
        dtype: floating-point type of the batches.
        seed: of the shuffling.
        shuffle: draw the batches anew each epoch; otherwise they are always the same.
        mask_fixed: give no weight to the forces of atoms that a constraint holds in place.
        workers: worker processes, None for a number that suits the machine; 0 for a thread.
        shard: which of several processes that train together this is.

    Attributes:
        structures: the sample.
        neighbors: its neighbour lists.
        shapes: static shapes in ascending order; batches that exceed the last get a larger one.
        padding: share of padding expected from the sample.

    Raises:
        MlipError: for an unknown element or coinciding atoms in the sample, or a batch size that
            cannot be shared.
    """

    def __init__(
        self,
        frames: Frames,
        sample: Sequence[Structure],
        *,
        cutoff: float,
        elements: Sequence[int],
        e0: Mapping[int, float],
        batch_size: int,
        dtype: np.dtype | type | str = np.float32,
        seed: int = 0,
        shuffle: bool = True,
        mask_fixed: bool = False,
        workers: int | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        if batch_size % shard.count:
            raise MlipError(
                f"a batch of {batch_size} structures cannot be shared by {shard.count} processes; "
                f"set trainer.batch_size to a multiple of {shard.count}."
            )
        self.structures = sample
        self.neighbors = [neighbor_list(structure, cutoff) for structure in sample]
        atoms = [len(structure) for structure in sample]
        width = choose_width(packing.neighbor_counts(atoms, self.neighbors))
        share = batch_size // shard.count
        self.shapes, self.padding = choose_window_shapes(
            packing.measure(atoms, self.neighbors, width),
            width,
            batch_size=share,
            window=min(share * BATCHES_PER_WINDOW, len(frames)),
        )
        self._windows = Windows(
            frames=frames,
            cutoff=cutoff,
            elements=tuple(elements),
            e0=dict(e0),
            batch_size=batch_size,
            dtype=np.dtype(dtype).name,
            shapes=tuple(self.shapes),
            seed=seed,
            shuffle=shuffle,
            shard=shard,
            mask_fixed=mask_fixed,
        )
        self._workers = default_workers() if workers is None else workers

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._windows.num_batches

    def __repr__(self) -> str:
        return (
            f"StreamedBatches({len(self._windows.frames)} structures in {len(self)} batches, "
            f"{len(self.shapes)} batch shape(s), padding: about {self.padding.edges:.0%} of edges, "
            f"{self.padding.atoms:.0%} of atoms; {self._workers} worker process(es))"
        )

    @property
    def padding_share(self) -> float:
        """Share of the edge slots that is padding, expected from the sample."""
        return self.padding.edges

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, from batch `start` on."""
        made = from_workers(self._windows, epoch, start, workers=self._workers, endless=False)
        with closing(made):
            for batch in made:
                yield _to_batch(batch)

    def stream(self, epoch: int, start: int = 0) -> Generator[tuple[Batch, bool], None, None]:
        """The batches from a position on, epoch after epoch, each with whether it ends one.

        The workers go on from one epoch to the next without a pause.
        """
        made = from_workers(self._windows, epoch, start, workers=self._workers, endless=True)
        number = start
        with closing(made):
            for batch in made:
                number = number % len(self) + 1
                yield _to_batch(batch), number == len(self)


def default_workers() -> int:
    """Worker processes that suit the machine: the training step needs most of it."""
    return max(1, min(MAX_WORKERS, (os.cpu_count() or 1) // 2))


def _to_batch(made: HostBatch) -> Batch:
    from mlip.graph import Graph, Labels

    return Batch(
        Graph(**made.graph), Labels(**made.labels), made.identifiers, made.indices, made.skipped
    )
