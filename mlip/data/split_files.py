"""Splitting a source of any size into subsets that have nothing in common, as record numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mlip.data.dataset_settings import SplitUnit
from mlip.data.files import in_order
from mlip.data.frames import Part
from mlip.data.records import take
from mlip.data.sources.source import BadRecordError, left_out
from mlip.data.splits import composition, hash64, joined, require_trajectories, structure_keys
from mlip.data.structure import Structure, is_isolated_atom
from mlip.errors import MlipError

ROUNDING = 1e-6  # by which fractions may miss 1 in all


@dataclass(frozen=True, eq=False)
class Split:
    """Subsets of a source.

    Attributes:
        numbers: of the records of each subset, ascending, int64.
        groups: how many groups of records that stay together there are.
        repeated: records left out since they also stand in a subset before theirs.
        isolated: isolated atoms, all of which are in the first subset.
        faults: why records cannot be used, one sentence each.
    """

    numbers: dict[str, np.ndarray]
    groups: int
    repeated: int
    isolated: int
    faults: list[str]


def split_records(
    part: Part,
    fractions: Mapping[str, float],
    by: SplitUnit,
    seed: int,
    *,
    skip_bad: bool = False,
    report: Callable[[int], None] = lambda done: None,
) -> Split:
    """Deal the groups of records to subsets at random, none of them to two.

    Every structure is read once; three numbers of eight bytes are kept for each. The order of the
    groups is that of a hash of their names and the seed, so it is the same for every copy of the
    data; that of trajectories and compositions for every format, too. Frames that two trajectories
    have in common stay in the first subset only.

    Args:
        part: the records.
        fractions: share of each subset.
        by: what is a group: equal frames, a trajectory, or frames of the same atoms.
        seed: of the draw.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
        report: called with the number of records read.

    Raises:
        BadRecordError: for a record that cannot be used, unless these are left out.
        MlipError: for fractions that are not 1 in all, a subset that would be empty, or records
            that do not say which trajectory they belong to.
    """
    _require_fractions(fractions)
    if by == "trajectory":
        require_trajectories(part.source, part.records, "by")
    count = len(part.records)
    groups, keys = np.zeros(count, np.uint64), np.zeros((count, 2), np.uint64)
    usable, isolated = np.zeros(count, bool), np.zeros(count, bool)
    faults: list[str] = []
    records = zip(part.records, in_order(part), strict=True)
    for place, (number, record) in enumerate(records):
        if isinstance(record, BadRecordError):
            faults.append(left_out(record, skip_bad=skip_bad))
        else:
            usable[place], isolated[place] = True, is_isolated_atom(record)
            keys[place] = structure_keys(record)
            name = str(keys[place, 0]) if by == "frame" else _group(part, number, record, by)
            groups[place] = hash64(f"{seed}:{name}".encode())
        report(place + 1)
    dealt = usable & ~isolated
    if by == "frame":
        groups[dealt] = joined(groups[dealt], keys[dealt])
    _, group, sizes = np.unique(groups[dealt], return_inverse=True, return_counts=True)
    subset = np.full(count, -1)
    subset[dealt] = _deal(sizes, np.array(list(fractions.values())))[group]
    subset[isolated] = 0
    repeated = _repeated(subset, keys)
    subset[repeated] = -1
    numbers = take(part.records, np.arange(count))
    found = {name: numbers[subset == index] for index, name in enumerate(fractions)}
    for name, chosen in found.items():
        if not len(chosen):
            raise MlipError(
                f"the split by {by} leaves nothing for {name}: {len(sizes)} groups of "
                f"{int(dealt.sum())} frames are too few; choose other fractions, or another by."
            )
    return Split(found, len(sizes), int(repeated.sum()), int(isolated.sum()), faults)


def write_split(
    folder: Path, split: Split, *, also: Callable[[Path], None] = lambda numbers: None
) -> list[Path]:
    """Write the record numbers of each subset to `FOLDER/NAME.npy`, all of them or none.

    Args:
        folder: where to write.
        split: the subsets.
        also: called with each file of numbers while it is in a temporary folder, to write others
            beside it; all of them move when it has been called with the last.

    Returns:
        the files of numbers.

    Raises:
        MlipError: if one of the files exists or cannot be written.
    """
    paths = [folder / f"{name}.npy" for name in split.numbers]
    require_free(paths)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".split-", dir=folder) as name:
            unfinished = Path(name)
            for path, numbers in zip(paths, split.numbers.values(), strict=True):
                np.save(unfinished / path.name, numbers)
                also(unfinished / path.name)
            for file in sorted(unfinished.iterdir(), key=lambda file: file.suffix == ".npy"):
                file.replace(folder / file.name)
    except OSError as error:
        raise MlipError(
            f"{folder} cannot be written to ({error.strerror or error}); choose another output."
        ) from error
    return paths


def require_free(paths: Iterable[Path]) -> None:
    """Refuse to replace files.

    Raises:
        MlipError: naming the first that exists.
    """
    for path in paths:
        if path.exists():
            raise MlipError(f"{path} exists; remove it, or choose another output.")


def _require_fractions(fractions: Mapping[str, float]) -> None:
    values = list(fractions.values())
    if not values or min(values) <= 0 or abs(sum(values) - 1) > ROUNDING:
        raise MlipError(
            f"fractions={dict(fractions)}: expected positive shares that are 1 in all, such as "
            "{train: 0.8, valid: 0.1, test: 0.1}."
        )


def _group(part: Part, number: int, record: Structure, by: SplitUnit) -> str:
    return part.source.trajectory(number) if by == "trajectory" else composition(record.numbers)


def _deal(sizes: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """The subset of each group: that into whose share of the records the group's middle falls."""
    middles = np.cumsum(sizes) - sizes / 2
    ends = np.cumsum(fractions) * sizes.sum()
    return np.minimum(np.searchsorted(ends, middles), len(fractions) - 1)


def _repeated(subset: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Records whose structure also stands in a subset before theirs."""
    repeated = np.zeros(len(keys), bool)
    for index in range(1, int(subset.max(initial=0)) + 1):
        inside, before = subset == index, (subset >= 0) & (subset < index)
        for column in keys.T:
            repeated[inside] |= np.isin(column[inside], column[before])
    return repeated
