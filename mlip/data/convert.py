"""Converting labelled structures from any format into one that can be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlip.data.files import in_order
from mlip.data.frames import Part
from mlip.data.sources.source import BadRecordError, left_out, trajectory_of
from mlip.data.writers import written
from mlip.errors import MlipError


@dataclass
class Converted:
    """What became of the records.

    Attributes:
        records: those written.
        faults: why others were left out, one sentence each.
        lost: what the format cannot hold, and how many structures had it.
    """

    records: int = 0
    faults: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


def convert(
    part: Part,
    output: Path,
    *,
    skip_bad: bool = False,
    report: Callable[[int], None] = lambda done: None,
) -> Converted:
    """Write some records of a source as another file, labels unchanged.

    Args:
        part: the records.
        output: the file to make; its ending names the format.
        skip_bad: leave out records that cannot be used; otherwise they are errors.
        report: called with the number of records read.

    Raises:
        BadRecordError: for a record that cannot be used, unless these are left out.
        MlipError: for a file that cannot be read or written.
    """
    result = Converted()
    with written(output, part.source.energy_reference) as writer:
        for done, (number, record) in enumerate(
            zip(part.records, in_order(part), strict=True), start=1
        ):
            if isinstance(record, BadRecordError):
                result.faults.append(left_out(record, skip_bad=skip_bad))
            else:
                writer.add(record, trajectory_of(part.source, number))
                result.records += 1
            report(done)
        result.lost = writer.lost
        if not result.records:
            raise MlipError(f"{output}: there is no record to write that can be used.")
    return result
