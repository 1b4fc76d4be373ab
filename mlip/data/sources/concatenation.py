"""`Concatenation`: several sources one after the other, and the shards of a folder."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, groupby
from pathlib import Path

import numpy as np

from mlip.data.sources.source import BadRecordError, EnergyReference, Source
from mlip.data.structure import Structure
from mlip.data.tally import Tally
from mlip.errors import MlipError


class Concatenation(Source):
    """Several sources one after the other.

    Args:
        parts: the sources.
        mix_energies: allow energies that count from different zeros. A model cannot learn them
            as one quantity unless something else tells the parts apart.

    Raises:
        MlipError: for energies that count from different zeros, unless they are allowed.
    """

    def __init__(self, parts: Sequence[Source], *, mix_energies: bool = False) -> None:
        self.parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in self.parts))
        if not mix_energies:
            require_one_reference(self.parts)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(chain.from_iterable(part.files for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Structure:
        part, local = self._locate(index)
        return part[local]

    def stream(self) -> Iterator[Structure | BadRecordError]:
        return chain.from_iterable(part.stream() for part in self.parts)

    def read_in_order(self, indices: Iterable[int]) -> Iterator[Structure | BadRecordError]:
        for number, shared in groupby(indices, lambda index: bisect_right(self._ends, index)):
            begin = self._ends[number - 1] if number else 0
            yield from self.parts[number].read_in_order(index - begin for index in shared)

    def identifier(self, index: int) -> str:
        part, local = self._locate(index)
        return part.identifier(local)

    def num_atoms(self, index: int) -> int:
        part, local = self._locate(index)
        return part.num_atoms(local)

    def atomic_numbers(self, index: int) -> np.ndarray:
        part, local = self._locate(index)
        return part.atomic_numbers(local)

    def trajectory(self, index: int) -> str:
        part, local = self._locate(index)
        return part.trajectory(local)

    def sizes(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int32), *(part.sizes() for part in self.parts)])

    @property
    def energy_reference(self) -> EnergyReference:
        """That of the parts; `unstated` where they differ."""
        return next(iter(self._references)) if len(self._references) == 1 else "unstated"

    @property
    def elements(self) -> frozenset[int] | None:
        found = [part.elements for part in self.parts]
        known = [elements for elements in found if elements is not None]
        return frozenset().union(*known) if len(known) == len(found) else None

    def tally(self) -> Tally | None:
        total = Tally()
        for part in self.parts:
            sums = part.tally()
            if sums is None:
                return None
            total.merge(sums)
        return total

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(part.notes for part in self.parts))

    @cached_property
    def _references(self) -> frozenset[EnergyReference]:
        return frozenset(part.energy_reference for part in self.parts)

    def _locate(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        before = self._ends[number - 1] if number else 0
        return self.parts[number], index - before


def shards(folder: Path, suffixes: Sequence[str], *, first: int | None = None) -> list[Path]:
    """The files of a folder with one of these endings, in the order of their numbers.

    The number stands before the ending. Files whose names differ in it alone are a sequence, sorted
    by number; several sequences, and files without a number, follow each other by name.

    Args:
        folder: that holds them.
        suffixes: the endings.
        first: the lowest number, where there is one sequence; None accepts any.

    Raises:
        MlipError: if a number is missing in a sequence, or there twice.
    """
    endings = "|".join(re.escape(suffix) for suffix in suffixes)
    pattern = re.compile(rf"(.*?)(\d*)(?:{endings})")
    found = [(match, path) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    sequences: dict[str, dict[int, Path]] = {}
    for match, path in sorted(found, key=lambda item: item[1]):
        if match[2]:
            other = sequences.setdefault(match[1], {}).setdefault(int(match[2]), path)
            if other != path:
                raise MlipError(
                    f"{folder}: {other.name} and {path.name} are the same shard; keep one."
                )
    for by_number in sequences.values():
        begins = min(by_number) if first is None or len(sequences) > 1 else first
        _require_all(folder, by_number, begins)
    places = {path: (match[1], int(match[2] or -1), path.name) for match, path in found}
    return sorted(places, key=lambda path: places[path])


def _require_all(folder: Path, by_number: dict[int, Path], first: int) -> None:
    last = max(by_number)
    missing = [number for number in range(first, last) if number not in by_number]
    if missing:
        named = ", ".join(str(number) for number in missing[:5])
        named += f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise MlipError(
            f"{folder}: shard {named} is missing in the sequence that ends with "
            f"{by_number[last].name}; copy or download it, or name single files."
        )


def open_shards(paths: Sequence[Path], opener: Callable[[Path], Source]) -> Source:
    """The source of a single file, or of several as one."""
    parts = [opener(path) for path in paths]
    return parts[0] if len(parts) == 1 else Concatenation(parts)


def require_one_reference(parts: Sequence[Source]) -> None:
    """Refuse energies that count from different zeros.

    Raises:
        MlipError: naming a file of each kind.
    """
    first: dict[EnergyReference, str] = {}
    for part in parts:
        if len(part):
            first.setdefault(part.energy_reference, part.identifier(0).partition("#")[0])
    if len(first) > 1:
        found = ", ".join(f"{name} has {reference} energies" for reference, name in first.items())
        raise MlipError(
            f"the energies count from different zeros: {found}; convert them or say what they are "
            "with energy_reference, or allow the mixture with mix_energies=true."
        )
