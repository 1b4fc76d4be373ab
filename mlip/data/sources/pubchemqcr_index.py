"""The index of a PubChemQCR file: its steps, and sums over those that can be used.

To make it, every molecule is decoded, which takes hours for the largest files. So it is made in
pieces, by worker processes, and every piece is kept: what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlip.data.progress import progress
from mlip.data.sources.cache import cached_index, is_kept
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.pubchemqcr_molecule import steps_of
from mlip.data.tally import Tally
from mlip.data.worker_pool import in_turn
from mlip.errors import MlipError

MOLECULES = 1000  # of a piece
STEP = np.dtype([("cid", "u4"), ("phase", "u1"), ("step", "u2"), ("atoms", "u2"), ("fault", "u1")])


class Index(NamedTuple):
    """What a file holds of one stage.

    Attributes:
        steps: an array of `STEP`, the usable ones in the order of the file first.
        tally: sums over these.
    """

    steps: np.ndarray
    tally: Tally


class Piece(NamedTuple):
    """Some molecules that follow each other.

    Attributes:
        number: of the piece.
        first: key of its first molecule.
        molecules: their number.
    """

    number: int
    first: bytes
    molecules: int


@dataclass(frozen=True)
class IndexTask:
    """Makes the index of some pieces, packed; see `mlip.data.worker.Task`.

    Attributes:
        path: the file.
        stage: the relaxations.
        pieces: of the file.
    """

    path: Path
    stage: str
    pieces: Sequence[Piece]

    @property
    def ahead(self) -> int:
        """Some pieces."""
        return 2

    def produce(self) -> Iterator[np.ndarray]:
        """The pieces in order, those that are kept from an earlier attempt as they are."""
        for piece in self.pieces:
            # The index of the whole file replaces these entries, as their names begin with its.
            kind = f"index-{self.stage}-{piece.number}"
            yield np.array(cached_index(self.path, kind, partial(self._make, piece)))

    def _make(self, piece: Piece) -> np.ndarray:
        columns = [array(STEP[name].char) for name in STEP.names or ()]
        tally = Tally()
        for key, data in islice(LmdbFile(self.path).items(piece.first), piece.molecules):
            steps = list(steps_of(data, self.stage))
            for step in steps:
                row = (int(key), step.phase, step.step, step.atoms, step.fault)
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
            tally.add([step.structure for step in steps if step.structure is not None])
        found = np.zeros(len(columns[0]), STEP)
        for name, column in zip(STEP.names or (), columns, strict=True):
            found[name] = np.frombuffer(column, STEP[name]) if len(column) else ()
        return _pack(Index(found, tally))


def read_index(path: Path, stage: str) -> Index:
    """The index of a file, made if it is not there yet.

    Raises:
        MlipError: if the file cannot be read, or its keys are no CIDs.
    """
    return _unpack(cached_index(path, f"index-{stage}", lambda: _make(path, stage)))


def _make(path: Path, stage: str) -> np.ndarray:
    pieces = _cut(path)
    # What is not kept is a matter of seconds, and each process makes it for itself.
    workers = min(os.cpu_count() or 1, len(pieces)) if is_kept(path) else 1
    tasks = [IndexTask(path, stage, pieces[first::workers]) for first in range(workers)]
    tally, steps = Tally(), []
    with closing(_packed(tasks)) as made, progress(f"index of {path.name}", len(pieces)) as bar:
        for number, packed in enumerate(made, 1):
            index = _unpack(packed)
            tally.merge(index.tally)
            steps.append(index.steps)
            bar.update(number, f"pieces of {MOLECULES} molecules")
    every = np.concatenate(steps)
    return _pack(Index(every[np.argsort(every["fault"], kind="stable")], tally))


def _packed(tasks: Sequence[IndexTask]) -> Generator[np.ndarray, None, None]:
    if len(tasks) == 1:
        yield from tasks[0].produce()
    else:
        yield from in_turn(tasks, repeat(1, sum(len(task.pieces) for task in tasks)), "free some")


def _cut(path: Path) -> list[Piece]:
    """The pieces of a file."""
    firsts = []
    for number, key in enumerate(LmdbFile(path)):
        if not (len(key) == 9 and key.isdigit()):
            raise MlipError(
                f"{path}: the key {key[:20]!r} is no PubChem CID of nine digits, so this is no "
                "PubChemQCR file; name its format with the option format."
            )
        if number % MOLECULES == 0:
            firsts.append(key)
    return [Piece(number, first, MOLECULES) for number, first in enumerate(firsts)]


def _pack(index: Index) -> np.ndarray:
    """As bytes: the length of the sums, the sums, the steps."""
    sums = json.dumps(index.tally.to_json()).encode()
    return np.frombuffer(b"%12d%b%b" % (len(sums), sums, index.steps.tobytes()), np.uint8)


def _unpack(packed: np.ndarray) -> Index:
    """The reverse of `_pack`; the steps of a mapped file stay on disk."""
    end = 12 + int(packed[:12].tobytes())
    tally = Tally.from_json(json.loads(packed[12:end].tobytes()))
    return Index(packed[end:].view(STEP), tally)
