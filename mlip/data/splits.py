"""Seeded splits and the search for duplicate structures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np

from mlip.data.sources.source import BadRecordError, Source, trajectory_of
from mlip.data.structure import Structure
from mlip.errors import MlipError

PROJECTIONS = 6  # numbers that stand for all coordinates when structures are compared
STEP = 1e-3  # Å, to which these are rounded
SAMPLE = 1000  # records among which the name of a trajectory is looked for, at most


def structure_keys(structure: Structure) -> tuple[int, int]:
    """Two numbers below 2^64, at least one of which two duplicates have in common; no labels.

    Some weighted sums of all coordinates and cell vectors, p_k = Σ_i w_ki x_i, are rounded to a
    grid, and to one that is shifted by half a step. Where the same coordinates were written with
    other digits, as floats of 32 bits say, a sum may fall on another side of a rounding edge, but
    hardly one on both grids: of random structures of 100 atoms none of 3000 missed its copy with
    float32 or 7 decimals, 0.07 % with 6, 6 % with 5, 72 % with 4.
    """
    atoms = structure.numbers.astype(np.int32).tobytes() + structure.pbc.astype(np.int8).tobytes()
    coordinates = np.concatenate([structure.positions.ravel(), structure.cell.ravel()])
    sums = _weights(len(coordinates)) @ coordinates / STEP
    first, second = (np.floor(sums + shift).astype(np.int64).tobytes() for shift in (0.25, 0.75))
    return hash64(atoms + b"a" + first), hash64(atoms + b"b" + second)


@lru_cache(maxsize=256)
def _weights(count: int) -> np.ndarray:
    """Numbers between 0.5 and 1.5 without any pattern, shape (PROJECTIONS, count)."""
    roots = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0][:PROJECTIONS])
    return 0.5 + np.modf(np.outer(roots, np.arange(1, count + 1)))[0]


def joined(names: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The least name among the structures that are duplicates of each.

    Args:
        names: one for each structure, of any ordered kind, shape (n,).
        keys: their `structure_keys`, uint64, shape (n, 2).
    """
    groups = [np.unique(column, return_inverse=True)[1] for column in keys.T]
    while True:
        before = names
        for group in groups:
            order = np.lexsort((names, group))
            first = np.flatnonzero(np.diff(group[order], prepend=-1))
            names = names[order][first][group]
        if np.array_equal(names, before):
            return names


def split(
    structures: Sequence[Structure],
    valid_count: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> tuple[list[Structure], list[Structure]]:
    """Draw a validation set at random; the order of the file is kept in both parts.

    Structures of one group stay together, so that none of it is on the other side.

    Args:
        structures: all structures.
        valid_count: structures to hold out; exceeded when the last group drawn is larger.
        seed: of the draw.
        groups: what each structure belongs to; None for duplicates of one structure.

    Returns:
        training and validation structures.

    Raises:
        MlipError: for fewer than two structures, a count that is not positive, or if nothing
            would be left to train on.
    """
    if len(structures) < 2:
        raise MlipError(
            f"found {len(structures)} structure(s) to train on; at least two are needed, one of "
            "them for validation."
        )
    if not 0 < valid_count < len(structures):
        raise MlipError(
            f"cannot hold out {valid_count} of {len(structures)} structures for validation; "
            f"choose between 1 and {len(structures) - 1}."
        )
    members: dict[str | int, list[int]] = {}
    names: Sequence[str | int] = groups or _first_duplicates(structures)
    for index, group in enumerate(names):
        members.setdefault(group, []).append(index)
    lists = list(members.values())
    held_out: set[int] = set()
    for group_number in np.random.default_rng(seed).permutation(len(lists)):
        if len(held_out) >= valid_count:
            break
        held_out.update(lists[group_number])
    if len(held_out) == len(structures):
        what = "duplicates of each other" if groups is None else "of the groups held out"
        raise MlipError(
            f"all {len(structures)} structures are {what}, so none is left to train on after "
            "holding out a validation set."
        )
    train = [s for i, s in enumerate(structures) if i not in held_out]
    return train, [structures[i] for i in sorted(held_out)]


def is_held_out(group: str, fraction: float, seed: int) -> bool:
    """Whether a group belongs to the validation set, by its name alone.

    Args:
        group: what stays together, such as a trajectory.
        fraction: of all groups that are held out.
        seed: of the draw.
    """
    return hash64(f"{seed}:{group}".encode()) < fraction * 2**64


def require_trajectories(source: Source, records: Sequence[int], option: str) -> None:
    """Refuse to split records by trajectory that do not say which they belong to.

    Args:
        source: of the records.
        records: their numbers.
        option: the user's option for what stays together, for the message.

    Raises:
        MlipError: if none of some records, taken from all over, names a trajectory.
    """
    alone = 0
    for place in np.unique(np.linspace(0, len(records) - 1, SAMPLE, dtype=int)).tolist():
        with suppress(BadRecordError):  # whoever reads it decides what becomes of it
            if trajectory_of(source, records[place]) is not None:
                return
            alone += source.num_atoms(records[place]) > 1  # isolated atoms belong to none
    if alone:
        file = source.identifier(0).partition("#")[0]
        raise MlipError(
            f"{option}=trajectory: none of the {alone} frames looked at in {file} says which "
            "trajectory it belongs to, so that each would be a group of its own; write "
            "trajectory=NAME into the comment line of every frame (extended XYZ), or choose "
            f"{option}=frame or {option}=composition."
        )


def hash64(content: bytes) -> int:
    """A number below 2^64 that is the same everywhere and always."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def composition(numbers: np.ndarray) -> str:
    """The atoms of a structure as text, such as `1:4 6:1` for methane."""
    elements, counts = np.unique(numbers, return_counts=True)
    return " ".join(f"{z}:{count}" for z, count in zip(elements, counts, strict=True))


def without_duplicates(
    structures: Sequence[Structure], reference: Sequence[Structure]
) -> list[Structure]:
    """The structures that do not occur in `reference`."""
    known = {key for structure in reference for key in structure_keys(structure)}
    return [structure for structure in structures if known.isdisjoint(structure_keys(structure))]


def _first_duplicates(structures: Sequence[Structure]) -> list[int]:
    """The number of the first duplicate of each structure."""
    keys = np.array([structure_keys(structure) for structure in structures], np.uint64)
    return joined(np.arange(len(structures)), keys).tolist()
