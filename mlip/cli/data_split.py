"""`mlip data split`: subsets that have nothing in common."""

from __future__ import annotations

from pathlib import Path

from mlip.cli.console import console, text_table
from mlip.cli.schema_data import DataSplitConfig


def run(settings: DataSplitConfig) -> None:
    """Split, report, and write the subsets if asked to."""
    from mlip.cli.data_convert import write_as
    from mlip.data.files import Files, parse_slice, require_no_shard
    from mlip.data.split_files import require_free, split_records, write_split
    from mlip.progress import StepProgress

    for ending in filter(None, (".npy", settings.files)):  # now, not after all has been read
        paths = [settings.output / f"{name}{ending}" for name in settings.fractions]
        require_free(paths)
        require_no_shard(paths[0], settings.data, settings)
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

    def write_records(numbers: Path) -> None:
        if settings.files is not None:
            write_as(f"{base}@{numbers}", numbers.with_suffix(settings.files), settings)

    paths = write_split(settings.output, split, also=write_records)
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
