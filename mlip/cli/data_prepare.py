"""`mlip data prepare`: any labelled file or folder to one file that is read fast."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlip.cli.console import console, pairs_table
from mlip.cli.schema_data import DataPrepareConfig, SourceConfig

if TYPE_CHECKING:
    from mlip.data.prepared_file import Progress


def run(settings: DataPrepareConfig) -> None:
    """Prepare, or go on, with a progress bar; print what the file holds."""
    workers = (os.cpu_count() or 1) if settings.workers is None else settings.workers
    progress = prepare_with_bar(
        settings.data, settings.output, settings, cutoff=settings.cutoff, workers=workers
    )
    _print(settings, progress)


def prepare_with_bar(
    data: str, output: Path, settings: SourceConfig, *, cutoff: float | None, workers: int
) -> Progress:
    """Prepare, or go on, with a progress bar; say so if nothing was left to do.

    Args:
        data: the records, as on the command line.
        output: the file.
        settings: how they are read.
        cutoff: within which neighbours are counted, Å; None: not at all.
        workers: processes that read.

    Raises:
        MlipError: as `prepare`.
    """
    from contextlib import ExitStack

    from mlip.data.prepare import prepare
    from mlip.progress import StepProgress

    with ExitStack() as stack:
        bar: StepProgress | None = None

        def report(progress: Progress, total: int) -> None:
            nonlocal bar
            if bar is None:
                begun = f", {progress.read} of them read before" if progress.read else ""
                console().print(f"{data}: {total} records{begun}", markup=False)
                bar = stack.enter_context(StepProgress("records", total, progress.read, console()))
            bar.update(progress.read, f"{progress.left_out} left out" if progress.left_out else "")

        progress = prepare(
            data,
            output,
            settings.for_source(),
            cutoff=cutoff,
            workers=workers,
            skip_bad=settings.on_bad_record == "skip",
            report=report,
        )
    if bar is None:
        console().print(f"{output} is finished; nothing was left to do", markup=False)
    return progress


def _print(settings: DataPrepareConfig, progress: Progress) -> None:
    from ase.data import chemical_symbols

    from mlip.data.prepare import e0_name

    tally = progress.tally
    rows = {
        "records": f"{progress.records:,} ({progress.left_out:,} left out)",
        "elements": " ".join(chemical_symbols[number] for number in tally.elements),
        "atoms": f"{tally.smallest} to {tally.largest}, {int(tally.atoms.sum()):,} in all",
        "labels": f"energy {tally.energies:,}, forces {tally.forces:,}, stress {tally.stresses:,}",
    }
    if tally.force_rms is not None:
        rows["forces"] = f"RMS {tally.force_rms:.4g} eV/Å, largest {tally.largest_force:.4g} eV/Å"
    if tally.avg_num_neighbors is not None:
        rows[f"neighbours within {settings.cutoff:g} Å"] = f"{tally.avg_num_neighbors:.4g} an atom"
    console().print(pairs_table(str(settings.output), rows))
    for fault in progress.faults:
        console().print(f"left out: {fault}", style="yellow", markup=False)
    e0 = tally.fit_e0()
    if e0 is not None:
        console().print(e0.table(), markup=False)
        console().print(f"use them with dataset.e0={e0_name(settings.output)}", markup=False)
    size = settings.output.stat().st_size
    console().print(f"written to {settings.output}, {size / 2**20:,.1f} MiB", markup=False)
