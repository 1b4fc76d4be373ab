"""`mlip data inspect`: what is in labelled files and what looks wrong, as a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip.cli.console import console, text_table
from mlip.cli.run_folder import write_config
from mlip.cli.schema_data import DataInspectConfig

if TYPE_CHECKING:
    from mlip.data.inspection import Inspection


def run(settings: DataInspectConfig) -> None:
    """Read, check, print and write the page."""
    from mlip.reporting.data_report import reading_note, summary_rows, write_data_report

    inspection = _inspect(settings)
    run_dir = settings.run.dir
    write_config(run_dir, settings)
    page = write_data_report(run_dir, settings.run.name, inspection)
    console().print(reading_note(inspection), markup=False)
    console().print(text_table("", ["", *inspection.subsets], summary_rows(inspection)))
    if inspection.e0 is not None:
        console().print(inspection.e0.table(), markup=False)
    found = inspection.findings
    for style, lines in ((None, found.facts), ("yellow", found.warnings), ("red", found.fatal)):
        for line in lines:
            console().print(f"  {line}", style=style, markup=False)
    console().print(f"written to {page}, figures beside it", markup=False)


def _inspect(settings: DataInspectConfig) -> Inspection:
    from mlip.data.dataset import read_isolated_atoms
    from mlip.data.files import Files
    from mlip.data.inspection import inspect_subsets

    common: dict[str, Any] = {"sample": settings.sample, "cutoff": settings.cutoff}
    dataset = settings.dataset
    if dataset is None:
        assert settings.data is not None
        files = Files(Path(), settings.for_source(), skip_bad=True, prefix="")
        named = {name: [files.open(file)] for name, file in settings.data.items()}
        return inspect_subsets(named, apart=tuple(named), **common)
    files = Files(dataset.root, dataset.for_source(), skip_bad=True)
    subsets = {"train": [files.open(p.file, settings=p.source) for p in dataset.train.values()]}
    if dataset.valid is not None:
        subsets["valid"] = [files.open(dataset.valid)]
    subsets |= {
        name: [files.open(test.file, settings=test.source)] for name, test in dataset.tests.items()
    }
    excluded = [name for name, test in dataset.tests.items() if test.exclude_duplicates_of_train]
    return inspect_subsets(
        subsets,
        e0=dataset.e0_choice,
        isolated=read_isolated_atoms(dataset, files),
        apart=("train", "valid"),
        may_repeat=excluded,
        limits=dataset.preflight,
        **common,
    )
