"""Preparing data: any source into one LMDB of binary records, by worker processes, resumable."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlip.data.files import Files, parse_slice, require_no_shard
from mlip.data.frames import Part
from mlip.data.prefetch import prefetched
from mlip.data.prepared_file import Piece, Progress, read_progress, writing
from mlip.data.records import take
from mlip.data.sources.concatenation import Concatenation
from mlip.data.sources.prepared import FORMAT, encode
from mlip.data.sources.registry import SourceSettings
from mlip.data.sources.source import (
    BadRecordError,
    EnergyReference,
    Source,
    decoding,
    left_out,
    trajectory_of,
)
from mlip.data.structure import Structure
from mlip.data.tally import Tally
from mlip.data.worker_pool import in_turn
from mlip.errors import MlipError

PIECE = 1000  # records written in one transaction
AHEAD = 8  # pieces that a worker may be ahead
NEIGHBOR_SAMPLE = 10_000  # structures whose neighbours are counted, about
HASHED = 1 << 20  # bytes at the beginning and at the end of a file that enter its hash


class Span(NamedTuple):
    """Records of one file that are read by one worker.

    Attributes:
        leaf: number of the file's source.
        begin: number of its first record among those of all files.
        first: place of the first record to read among those that are asked for.
        stop: place after the last.
    """

    leaf: int
    begin: int
    first: int
    stop: int

    @property
    def pieces(self) -> int:
        """Number of pieces that it is written in."""
        return -(-(self.stop - self.first) // PIECE)


@dataclass(frozen=True)
class ReadTask:
    """Reads and encodes records; see `mlip.data.worker.Task`.

    Attributes:
        part: the records that are asked for, in the order of the source.
        spans: those to read.
        cutoff: within which neighbours are counted, Å; None: not at all.
        every: neighbours are counted in every so many records.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
    """

    part: Part
    spans: tuple[Span, ...]
    cutoff: float | None
    every: int
    skip_bad: bool

    @property
    def ahead(self) -> int:
        """Some pieces."""
        return AHEAD

    def produce(self) -> Iterator[Piece]:
        """The pieces of all spans."""
        for span in self.spans:
            records = self._records(span)
            for _ in range(span.pieces):
                yield self._piece(islice(records, PIECE))
            next(records, None)  # what is checked at the end of a file

    def _piece(self, records: Iterator[tuple[int, Structure | BadRecordError]]) -> Piece:
        encoded: list[bytes] = []
        structures: list[Structure] = []
        faults: list[str] = []
        tally = Tally()
        for index, record in records:
            try:
                if isinstance(record, BadRecordError):
                    raise record
                if self.cutoff is not None and index % self.every == 0:
                    with decoding(record.identifier):
                        tally.add_neighbors(record, self.cutoff)
                encoded.append(encode(record, trajectory_of(self.part.source, index)))
                structures.append(record)
            except BadRecordError as error:
                faults.append(left_out(error, skip_bad=self.skip_bad))
        tally.add(structures)
        atoms = [len(structure) for structure in structures]
        return Piece(encoded, atoms, len(encoded) + len(faults), faults, tally)

    def _records(self, span: Span) -> Iterator[tuple[int, Structure | BadRecordError]]:
        """Numbers and structures of the records of a span."""
        numbers = take(self.part.records, np.arange(span.first, span.stop)).tolist()
        leaf = _leaves(self.part.source)[span.leaf]
        if _streams(leaf):
            yield from _in_stream(leaf, numbers, span.begin)
        else:
            records = leaf.read_in_order(number - span.begin for number in numbers)
            yield from zip(numbers, records, strict=True)


def prepare(
    data: str,
    output: Path,
    settings: SourceSettings,
    *,
    cutoff: float | None,
    workers: int,
    skip_bad: bool = False,
    report: Callable[[Progress, int], None] = lambda progress, total: None,
) -> Progress:
    """Prepare a source, or go on where an interrupted preparation stopped.

    Beside the file, `NAME.e0.npz` gets E0 by least squares over all of its energies, as an array
    `coeff` indexed by the atomic number, eV, and what they count from as `energy_reference`.

    Args:
        data: a file or folder, its slice FILE@start:stop, or its records FILE@INDEX.npy.
        output: the file to make, `NAME.lmdb`.
        settings: how the source is read.
        cutoff: within which neighbours are counted, Å; None: not at all.
        workers: processes that read; 0 reads in this one.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
        report: called with the progress and the number of records of the source, first of all and
            after every piece.

    Returns:
        what has been written, if need be by an earlier call.

    Raises:
        BadRecordError: for a record that cannot be used, unless these are left out.
        MlipError: for a source that cannot be read, an output that cannot be written, is being
            written by another process or is made of something else.
    """
    if output.suffix != ".lmdb":
        raise MlipError(f"output={output}: expected a name ending in .lmdb.")
    require_no_shard(output, data, settings)
    part = Files(Path(), settings, prefix="").open(data)
    about = _about(data, part, settings, cutoff)
    if output.exists():
        return read_progress(output, about)
    with writing(output, about) as file:
        report(file.progress, len(part.records))
        spans = _spans(part, file.progress.read)
        every = max(1, len(part.records) // NEIGHBOR_SAMPLE)
        with closing(_pieces(part, spans, workers, cutoff, every, skip_bad)) as pieces:
            for piece in pieces:
                file.add(piece)
                report(file.progress, len(part.records))
        if not file.progress.records:
            raise MlipError(f"{data} holds no record that can be used.")
        _write_e0(output, file.progress.tally, part.source.energy_reference)
        file.finish()
    return file.progress


def e0_name(output: Path) -> Path:
    """The file with the fitted E0 of prepared data."""
    return output.with_suffix(".e0.npz")


def fingerprint(files: Sequence[Path]) -> dict[str, Any]:
    """What some files are known by: their number and size, and a SHA-256.

    The hash covers the name, the size, and the first and the last MiB of each file.
    """
    digest, total = hashlib.sha256(), 0
    for file in files:
        size = file.stat().st_size
        total += size
        digest.update(f"{file.name}\n{size}\n".encode())
        with file.open("rb") as content:
            digest.update(content.read(HASHED))
            content.seek(max(content.tell(), size - HASHED))
            digest.update(content.read(HASHED))
    return {"files": len(files), "bytes": total, "sha256": digest.hexdigest()}


def _about(data: str, part: Part, settings: SourceSettings, cutoff: float | None) -> dict[str, Any]:
    name, window = parse_slice(data)
    path = Path(name).expanduser().resolve()
    wanted = fingerprint([window])["sha256"] if isinstance(window, Path) else str(window)
    return {
        "format": FORMAT,
        "source": {"path": str(path), **fingerprint(part.source.files)},
        "records": {"count": len(part.records), "which": wanted},
        "settings": settings.model_dump(mode="json"),
        "energy_reference": part.source.energy_reference,
        "notes": list(part.source.notes),
        "cutoff": cutoff,
    }


def _leaves(source: Source) -> tuple[Source, ...]:
    return source.parts if isinstance(source, Concatenation) else (source,)


def _streams(leaf: Source) -> bool:
    """Whether a format is read faster in order than by index."""
    return type(leaf).stream is not Source.stream


def _in_stream(
    leaf: Source, numbers: Sequence[int], begin: int
) -> Iterator[tuple[int, Structure | BadRecordError]]:
    """Some records of a file that is read in order, to its end if the last of them is there."""
    position = 0
    for index, record in enumerate(leaf.stream(), begin):
        if position < len(numbers) and index == numbers[position]:
            position += 1
            yield index, record
            if position == len(numbers) and index + 1 < begin + len(leaf):
                return


def _spans(part: Part, done: int) -> list[Span]:
    """What is left to read; a file that is faster in order is not cut."""
    spans, begin = [], 0
    for number, leaf in enumerate(_leaves(part.source)):
        first = max(bisect_left(part.records, begin), done)
        stop = bisect_left(part.records, begin + len(leaf))
        size = max(len(leaf), 1) if _streams(leaf) else PIECE
        spans += [Span(number, begin, at, min(at + size, stop)) for at in range(first, stop, size)]
        begin += len(leaf)
    return spans


def _pieces(
    part: Part, spans: list[Span], workers: int, cutoff: float | None, every: int, skip: bool
) -> Generator[Piece, None, None]:
    """All pieces in order."""

    def task(share: list[Span]) -> ReadTask:
        return ReadTask(part, tuple(share), cutoff, every, skip)

    if workers == 0 or not spans:
        yield from prefetched(task(spans).produce())
        return
    workers = min(workers, len(spans))
    tasks = [task(spans[index::workers]) for index in range(workers)]
    yield from in_turn(tasks, (span.pieces for span in spans), "use fewer workers")


def _write_e0(output: Path, tally: Tally, reference: EnergyReference) -> None:
    table = tally.fit_e0()
    if table is None:
        return
    coefficients = np.zeros(max(table.values) + 1)
    for number, energy in table.values.items():
        coefficients[number] = energy
    target = e0_name(output)
    partial = target.with_name(f".{target.name}")  # savez wants it to end in .npz
    try:
        np.savez(partial, coeff=coefficients, energy_reference=reference)
        partial.replace(target)
    except OSError as error:
        raise MlipError(
            f"{target} cannot be written ({error.strerror or error}); make room and start the "
            "same command again."
        ) from error
