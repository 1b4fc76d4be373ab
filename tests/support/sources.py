"""Sources of labelled clusters, made up or in an LMDB of pickles, for the tests of the stream."""

from __future__ import annotations

import pickle
from functools import cached_property
from pathlib import Path

import lmdb
import numpy as np

from mlip.data.sources.source import BadRecordError, Source
from mlip.data.structure import Structure

ELEMENTS = (1, 8)
E0 = {1: -13.6, 8: -2041.8}


def cluster(index: int, *, most: int = 9) -> Structure:
    """A random cluster of 3 to `most` atoms, labelled with unrelated numbers."""
    generator = np.random.default_rng(index)
    count = int(generator.integers(3, most + 1))
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = 1.6 * grid[generator.permutation(27)[:count]] + generator.normal(
        scale=0.1, size=(count, 3)
    )
    numbers = generator.choice(ELEMENTS, size=count).astype(np.int32)
    return Structure(
        numbers,
        positions,
        energy=float(generator.normal()) + sum(E0[int(z)] for z in numbers),
        forces=generator.normal(size=(count, 3)),
        identifier=f"made_up#{index}",
    )


class MadeUp(Source):
    """`size` clusters made when they are asked for; the records in `bad` are damaged."""

    def __init__(self, size: int, *, bad: tuple[int, ...] = (), first: int = 0) -> None:
        self._size, self._bad, self._first = size, bad, first

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Structure:
        if index in self._bad:
            raise BadRecordError(self.identifier(index), "a bit has flipped; remove it.")
        return cluster(index + self._first)

    def identifier(self, index: int) -> str:
        return f"made_up#{index + self._first}"

    def num_atoms(self, index: int) -> int:
        return len(self[index])

    def trajectory(self, index: int) -> str:
        return f"walk {index // 10}"


class PickledLmdb(Source):
    """The simplest LMDB: key `index`, value the pickled fields of a structure."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _environment(self) -> lmdb.Environment:
        return lmdb.open(str(self._path), subdir=False, readonly=True, lock=False, readahead=False)

    @cached_property
    def _length(self) -> int:
        return int(self._environment.stat()["entries"])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Structure:
        with self._environment.begin() as transaction:
            fields = pickle.loads(transaction.get(str(index).encode()))
        return Structure(**fields, identifier=self.identifier(index))

    def identifier(self, index: int) -> str:
        return f"{self._path.name}#{index}"

    def num_atoms(self, index: int) -> int:
        return len(self[index])


def write_pickled_lmdb(path: Path, size: int) -> None:
    """Write `size` clusters."""
    with (
        lmdb.open(str(path), subdir=False, map_size=2**40, sync=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index in range(size):
            made = cluster(index)
            names = ("numbers", "positions", "energy", "forces")
            fields = {name: getattr(made, name) for name in names}
            transaction.put(str(index).encode(), pickle.dumps(fields))
