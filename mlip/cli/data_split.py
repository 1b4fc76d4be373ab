"""`mlip data split`: subsets that have nothing in common."""

from __future__ import annotations

from pathlib import Path

from mlip.cli.console import console, text_table
from mlip.cli.schema_data import DataSplitConfig


def run(settings: DataSplitConfig) -> None:
    """Split, report, and write the subsets if asked to."""
    from mlip.cli.data_convert import write_as
    from mlip.data.files import Files, parse_slice
    from mlip.data.split_files import split_records, write_split
    from mlip.progress import StepProgress

    part = Files(Path(), settings.for_source(), prefix="").open(settings.data)
    base = parse_slice(settings.data)[0]
    total = len(part.records)
    with StepProgress("records", total, 0, console()) as bar:
        split = split_records(
            part,
            settings.fractions,
            settings.by,
            settings.seed,
            skip_bad=settings.on_bad_record == "skip",
            report=lambda number: bar.update(number, ""),
        )
    paths = write_split(settings.output, split)
    rows = [
        [name, f"{len(numbers):,}", f"{100 * len(numbers) / total:.1f} %", f"{base}@{path}"]
        for (name, numbers), path in zip(split.numbers.items(), paths, strict=True)
    ]
    title = f"{total:,} records in {split.groups:,} groups by {settings.by}"
    console().print(text_table(title, ["subset", "records", "share", "as a data file"], rows))
    for count, what in (
        (split.repeated, "left out: they also stand in a subset before theirs"),
        (split.isolated, f"isolated atoms, all of them in {next(iter(split.numbers))}"),
        (len(split.faults), "left out: they cannot be used"),
    ):
        if count:
            console().print(f"{count:,} records {what}", style="yellow", markup=False)
    if settings.files is not None:
        for path in paths:
            write_as(f"{base}@{path}", path.with_suffix(settings.files), settings)
