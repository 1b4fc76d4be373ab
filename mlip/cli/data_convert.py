"""`mlip data convert`: labelled structures in another format, labels unchanged."""

from __future__ import annotations

import os
from pathlib import Path

from mlip.cli.console import console
from mlip.cli.data_prepare import prepare_with_bar
from mlip.cli.schema_data import DataConvertConfig, SourceConfig

NAMED = 5  # faults that are quoted


def run(settings: DataConvertConfig) -> None:
    """Convert, with a progress bar."""
    write_as(settings.data, settings.output, settings)


def write_as(data: str, output: Path, settings: SourceConfig) -> None:
    """Write some records as a file whose ending names the format, with a progress bar.

    Args:
        data: the records, as on the command line.
        output: the file.
        settings: how they are read.

    Raises:
        MlipError: for a file that cannot be read or written.
    """
    if output.suffix == ".lmdb":
        workers = os.cpu_count() or 1
        done = prepare_with_bar(data, output, settings, cutoff=None, workers=workers)
        _say(output, done.records, done.left_out, done.faults)
        return
    from mlip.data.convert import convert
    from mlip.data.files import Files, require_no_shard
    from mlip.progress import StepProgress

    require_no_shard(output, data, settings)
    skip_bad = settings.on_bad_record == "skip"
    part = Files(Path(), settings.for_source(), prefix="").open(data)
    with StepProgress("records", len(part.records), 0, console()) as bar:
        converted = convert(
            part, output, skip_bad=skip_bad, report=lambda number: bar.update(number, "")
        )
    _say(output, converted.records, len(converted.faults), converted.faults)
    for name, count in converted.lost.items():
        console().print(
            f"{output.suffix} files hold no {name}: {count} records had one, which is left out",
            style="yellow",
            markup=False,
        )


def _say(output: Path, records: int, left_out: int, faults: list[str]) -> None:
    console().print(f"{output.name} holds {records:,} records", markup=False)
    if left_out:
        console().print(f"{left_out:,} records left out:", style="yellow")
        for fault in faults[:NAMED]:
            console().print(f"  {fault}", style="yellow", markup=False)
