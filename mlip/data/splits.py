"""Seeded splits and the search for duplicate structures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from mlip.data.structure import Structure
from mlip.errors import MlipError

DUPLICATE_TOLERANCE = 1e-5  # Å, to which coordinates are rounded before they are compared


def structure_key(structure: Structure) -> bytes:
    """A digest of elements, coordinates and periodic cell, equal for duplicates; no labels."""
    digest = hashlib.sha256(structure.numbers.astype(np.int32).tobytes())
    digest.update(structure.pbc.astype(np.int8).tobytes())
    for array in (structure.positions, structure.cell):
        digest.update(np.rint(array / DUPLICATE_TOLERANCE).astype(np.int64).tobytes())
    return digest.digest()


def split(
    structures: Sequence[Structure], valid_count: int, seed: int
) -> tuple[list[Structure], list[Structure]]:
    """Draw a validation set at random; the order of the file is kept in both parts.

    Duplicates of one structure stay together, so that none is on both sides.

    Args:
        structures: all structures.
        valid_count: structures to hold out; exceeded when the last one drawn has duplicates.
        seed: of the draw.

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
    members: dict[bytes, list[int]] = {}
    for index, structure in enumerate(structures):
        members.setdefault(structure_key(structure), []).append(index)
    groups = list(members.values())
    held_out: set[int] = set()
    for group in np.random.default_rng(seed).permutation(len(groups)):
        if len(held_out) >= valid_count:
            break
        held_out.update(groups[group])
    if len(held_out) == len(structures):
        raise MlipError(
            f"all {len(structures)} structures are duplicates of each other, so none is left to "
            "train on after holding out a validation set."
        )
    train = [s for i, s in enumerate(structures) if i not in held_out]
    return train, [structures[i] for i in sorted(held_out)]


def without_duplicates(
    structures: Sequence[Structure], reference: Sequence[Structure]
) -> list[Structure]:
    """The structures that do not occur in `reference`."""
    known = {structure_key(structure) for structure in reference}
    return [structure for structure in structures if structure_key(structure) not in known]
