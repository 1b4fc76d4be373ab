"""`mlip md`: molecular dynamics with a saved potential."""

from __future__ import annotations

from mlip.cli.console import console
from mlip.cli.run_folder import write_config
from mlip.cli.schema import MDConfig
from mlip.cli.structures import open_simulation


def run(settings: MDConfig) -> None:
    """Run or continue the simulation in the run folder."""
    from mlip.simulation.md import run_md

    run_dir = settings.run.dir
    atoms, potential = open_simulation(settings)
    if not (run_dir / "config.yaml").is_file():
        write_config(run_dir, settings)
    run_md(atoms, potential, settings.md, run_dir, console=console())
    write_config(run_dir, settings)
    console().print(f"written to {run_dir}")
