"""`mlip md`: molecular dynamics with a saved potential."""

from __future__ import annotations

from mlip.cli.console import console
from mlip.cli.run_folder import open_run_folder, write_config
from mlip.cli.schema import MDConfig
from mlip.cli.structures import read_structure


def run(settings: MDConfig) -> None:
    """Run or continue the simulation in the run folder."""
    import mlip
    from mlip import runtime
    from mlip.simulation.md import run_md

    run_dir = settings.run.dir
    open_run_folder(run_dir)
    runtime.prepare(threads=settings.n_threads)
    atoms = read_structure(settings.structure, settings.index)
    potential = mlip.load(settings.model)
    console().print(f"{potential!r}; {runtime.summary()}", markup=False)
    if not (run_dir / "config.yaml").is_file():
        write_config(run_dir, settings)
    run_md(atoms, potential, settings.md, run_dir, console=console())
    write_config(run_dir, settings)
    console().print(f"written to {run_dir}")
