"""`mlip benchmark tensor-products`: times of every operator, to results.csv, figures and a page."""

from __future__ import annotations

from mlip.cli.console import console, text_table
from mlip.cli.provenance import versions
from mlip.cli.run_folder import write_config, write_text, writing_to
from mlip.cli.schema import BenchmarkTensorProductsConfig


def run(settings: BenchmarkTensorProductsConfig) -> None:
    """Measure what is missing in the folder, then draw and summarise all that is there."""
    from mlip import runtime
    from mlip.benchmark.figures import write_figures
    from mlip.benchmark.machine import describe_machine
    from mlip.benchmark.records import Records
    from mlip.benchmark.summary import main_sections, sections, summary_table, write_summary
    from mlip.benchmark.tensor_products import missing_rows, run_benchmark
    from mlip.progress import StepProgress

    run_dir, grid = settings.run.dir, settings.preset
    runtime.prepare(threads=settings.n_threads)
    console().print(runtime.summary(), markup=False)
    machine = {**describe_machine(), "versions": versions()}
    with writing_to(run_dir):
        records = Records(run_dir, machine)
        write_config(run_dir, settings)
        missing = missing_rows(grid, records)
        total = sum(map(len, missing.values()))
        console().print(f"{total} programs to time, {len(records.rows)} there already")
        with StepProgress("programs", total, 0, console()) as progress:
            left = run_benchmark(grid, records, missing, progress)
    if left:
        console().print(
            f"stopped after {grid.max_minutes:g} minutes with {left} of {len(missing)} comparisons "
            "left; the same command goes on"
        )
    figures = write_figures(run_dir / "figures", records.rows)
    write_text(run_dir / "summary.md", write_summary(records.rows, machine))
    groups = sections(records.rows)
    for section in main_sections(records.rows):
        table = summary_table(section, groups[section])
        console().print(text_table(table.title, table.header, table.rows))
        for note in table.notes:
            console().print(note, markup=False)
    console().print(f"written to {run_dir}: results.csv, summary.md, {len(figures)} figures")
