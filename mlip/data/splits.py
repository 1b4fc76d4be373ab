"""Seeded splits and the search for duplicate structures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from mlip.data.sources.source import BadRecordError, Source, trajectory_of
from mlip.data.structure import Structure
from mlip.errors import MlipError

DUPLICATE_TOLERANCE = 1e-5  # Å, to which coordinates are rounded before they are compared
SAMPLE = 1000  # records among which the name of a trajectory is looked for, at most


def structure_key(structure: Structure) -> bytes:
    """A digest of elements, coordinates and periodic cell, equal for duplicates; no labels."""
    digest = hashlib.sha256(structure.numbers.astype(np.int32).tobytes())
    digest.update(structure.pbc.astype(np.int8).tobytes())
    for array in (structure.positions, structure.cell):
        digest.update(np.rint(array / DUPLICATE_TOLERANCE).astype(np.int64).tobytes())
    return digest.digest()


def split(
    structures: Sequence[Structure],
    valid_count: int,
    seed: int,
    groups: Sequence[str | bytes] | None = None,
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
    members: dict[str | bytes, list[int]] = {}
    for index, group in enumerate(groups or map(structure_key, structures)):
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
    known = {structure_key(structure) for structure in reference}
    return [structure for structure in structures if structure_key(structure) not in known]
