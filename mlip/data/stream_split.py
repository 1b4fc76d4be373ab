"""Splitting streams into training and validation data, in bounded memory and without a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlip.data.frames import Part
from mlip.data.records import Marked, Shuffled
from mlip.data.sources.source import BadRecordError
from mlip.data.splits import composition, is_held_out, require_trajectories
from mlip.errors import MlipError

SPLIT_KEY = 0x5350  # names the order whose beginning is held out


def split_parts(
    parts: Sequence[Part], valid_count: int, seed: int, unit: str
) -> tuple[list[Part], list[Part]]:
    """Training and validation parts.

    Frames are held out by a computed random order, exactly `valid_count` of them, duplicates not
    looked for. Trajectories and compositions are held out by a hash of their names, so that about
    `valid_count` frames are: the names of all records are read once, and one bit of memory kept
    for each.

    Args:
        parts: with all their records; the weights of validation parts are 1.
        valid_count: frames to hold out.
        seed: of the draw.
        unit: `frame`, `trajectory` or `composition`.

    Raises:
        MlipError: if nothing would be left on one of the sides, or records do not say which
            trajectory they belong to.
    """
    total = sum(len(part.records) for part in parts)
    if not 0 < valid_count < total:
        raise MlipError(
            f"cannot hold out {valid_count} of {total} structures for validation; choose between "
            f"1 and {total - 1}."
        )
    if unit == "frame":
        pairs = _by_frame(parts, valid_count / total, seed)
    else:
        if unit == "trajectory":
            for part in parts:
                require_trajectories(part.source, part.records, "dataset.split_by")
        pairs = [_by_group(part, valid_count / total, seed, unit) for part in parts]
    train = [kept for kept, _ in pairs if len(kept.records)]
    valid = [held_out for _, held_out in pairs if len(held_out.records)]
    for side, name in ((train, "training"), (valid, "validation")):
        if not side:
            raise MlipError(
                f"the split by {unit} leaves no {name} frames: there are too few groups; choose "
                "another dataset.split_seed, valid_count or split_by, or give dataset.valid."
            )
    return train, valid


def _by_frame(parts: Sequence[Part], fraction: float, seed: int) -> list[tuple[Part, Part]]:
    sizes = np.array([len(part.records) for part in parts])
    held_out = np.diff(np.rint(fraction * np.cumsum(sizes)), prepend=0).astype(int)
    pairs = []
    for number, (part, count) in enumerate(zip(parts, held_out.tolist(), strict=True)):
        records, key = part.records, (SPLIT_KEY, seed, number)
        valid = Part(part.source, Shuffled(records, key, 0, count))
        train = Part(part.source, Shuffled(records, key, count, len(records)), part.weight)
        pairs.append((train, valid))
    return pairs


def _by_group(part: Part, fraction: float, seed: int, unit: str) -> tuple[Part, Part]:
    records = part.records
    marks = np.zeros(len(records), bool)
    last, held_out = None, False
    for place, record in enumerate(records):
        group = _group(part, record, unit)
        if group != last:  # frames of a trajectory mostly follow each other
            last, held_out = group, is_held_out(group, fraction, seed)
        marks[place] = held_out
    train = Part(part.source, Marked(records, ~marks), part.weight)
    return train, Part(part.source, Marked(records, marks))


def _group(part: Part, record: int, unit: str) -> str:
    try:
        if unit == "trajectory":
            return part.source.trajectory(record)
        return composition(part.source.atomic_numbers(record))
    except BadRecordError:
        return ""  # whoever reads it decides what becomes of it
