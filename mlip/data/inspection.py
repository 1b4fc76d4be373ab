"""Inspecting labelled structures: a bounded sample of any source, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlip.data.checks import check_duplicates, examine
from mlip.data.derivative_checks import check_energy_scale, check_stresses, check_work
from mlip.data.e0 import E0Table, make_e0, require_belonging
from mlip.data.files import Files
from mlip.data.findings import Findings
from mlip.data.frames import Frames, Part
from mlip.data.preflight import PreflightSettings
from mlip.data.sources.registry import SourceSettings
from mlip.data.sources.source import BadRecordError, EnergyReference, quoted
from mlip.data.stream_elements import known_elements
from mlip.data.structure import Structure
from mlip.errors import MlipError

PAIRS = 200  # records that are read together with their successors, at most


@dataclass(frozen=True, eq=False)
class Inspected:
    """What was read of one subset.

    Attributes:
        records: all there are.
        sampled: whether only some of them were read.
        reference: what the energies count from; `unstated` for a mixture.
        structures: those that were read, without isolated atoms.
        faults: why others could not be used, one sentence each.
        pairs: structures with those that follow them.
    """

    records: int
    sampled: bool
    reference: EnergyReference
    structures: list[Structure]
    faults: list[str]
    pairs: list[tuple[Structure, Structure]]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found in some subsets.

    Attributes:
        subsets: by name.
        e0: isolated-atom energies; None if there are no energies.
        findings: facts, warnings, and what makes the data useless.
    """

    subsets: dict[str, Inspected]
    e0: E0Table | None
    findings: Findings


def inspect_subsets(
    subsets: Mapping[str, Sequence[Part]],
    *,
    sample: int,
    cutoff: float,
    e0: str | Mapping[str, float] | None = None,
    isolated: Sequence[Structure] = (),
    apart: Sequence[str] = (),
    may_repeat: Collection[str] = (),
    limits: PreflightSettings | None = None,
) -> Inspection:
    """Read and check subsets of any size.

    Args:
        subsets: where to read them, by name; the first is the one that is trained on.
        sample: most records to read of each, drawn at random, always the same ones.
        cutoff: Å, within which atoms should have neighbours.
        e0: as in `make_e0`; None: isolated atoms if there are any, else least squares.
        isolated: single atoms with their energies, beside those among the first records.
        apart: subsets that must have nothing in common with those after them.
        may_repeat: subsets whose duplicates do not matter.
        limits: beyond which data would be refused for training.

    Raises:
        MlipError: for a file that cannot be read, or a subset of which no record can be used.
    """
    found = {name: _read(name, parts, sample) for name, parts in subsets.items()}
    structures = {name: subset.structures for name, subset in found.items()}
    first = next(iter(structures.values()))
    files = Files(Path(), SourceSettings(), skip_bad=True)
    isolated = [*isolated, *files.first_isolated_atoms(next(iter(subsets.values())))]
    reference = next(iter(found.values())).reference
    table, problem = _e0(e0, first, isolated, reference)
    sampled = [name for name, subset in found.items() if subset.sampled]
    elements = {int(number) for s in first for number in s.numbers}
    if next(iter(found)) in sampled:  # as when it is streamed
        elements |= known_elements(next(iter(subsets.values())))
        elements |= set(table.values) if table else set()
    findings = examine(
        structures,
        table or E0Table({}, "nowhere", None, None),
        sorted(elements),
        cutoff=cutoff,
        reference=reference,
        sampled=sampled,
        **(limits or PreflightSettings()).model_dump(),
    )
    if problem:
        findings.fatal.append(problem)
    compared = {name: found for name, found in structures.items() if name not in may_repeat}
    check_duplicates(findings, compared, apart, sampled=bool(sampled))
    for name, subset in found.items():
        if not check_work(findings, name, subset.pairs):
            check_energy_scale(findings, name, subset.structures)
        check_stresses(findings, name, subset.structures)
        _note_faults(findings, name, subset)
    return Inspection(found, table, findings)


def _read(name: str, parts: Sequence[Part], sample: int) -> Inspected:
    frames = Frames(parts, skip_bad=True)
    read = frames.sample(sample)
    if not read.structures:
        why = f": {read.faults[0]}" if read.faults else ", but isolated atoms at most."
        raise MlipError(f"{name}: no structure to inspect{why}")
    pairs = _pairs(frames, read.positions)
    references = {part.source.energy_reference for part in parts}
    return Inspected(
        records=len(frames),
        sampled=sample < len(frames),
        reference=references.pop() if len(references) == 1 else "unstated",
        structures=read.structures,
        faults=read.faults,
        pairs=pairs,
    )


def _pairs(frames: Frames, positions: np.ndarray) -> list[tuple[Structure, Structure]]:
    """Structures at some of the positions, with those in the records after them."""
    chosen = positions[np.linspace(0, len(positions) - 1, PAIRS, dtype=int)]
    pairs = []
    for part, record in zip(*frames.locate(np.unique(chosen)), strict=True):
        source = frames.parts[part].source
        if record + 1 < len(source):
            try:
                pairs.append((source[int(record)], source[int(record) + 1]))
            except BadRecordError:
                continue  # counted where the sample is read
    return pairs


def _e0(
    choice: str | Mapping[str, float] | None,
    structures: Sequence[Structure],
    isolated: Sequence[Structure],
    reference: EnergyReference,
) -> tuple[E0Table | None, str | None]:
    """The table that was asked for, or else one by least squares and what is wrong."""
    if all(s.energy is None for s in structures):
        return None, None
    serve = isolated and reference in ("total", "unstated")
    wanted = choice or ("isolated" if serve else "least_squares")
    try:
        table = make_e0(wanted, structures, isolated)
        require_belonging(wanted, table.values, reference)
    except MlipError as error:
        fitted = make_e0("least_squares", structures, ())
        instead = f"{fitted.origin} (those asked for cannot be used: see the findings)"
        return replace(fitted, origin=instead), str(error).rstrip(".")
    return table, None


def _note_faults(findings: Findings, name: str, subset: Inspected) -> None:
    if subset.faults:
        looked_at = len(subset.structures) + len(subset.faults)
        findings.warnings.append(
            f"{name}: {len(subset.faults)} of {looked_at} records cannot be used: "
            f"{quoted(subset.faults)}"
        )
