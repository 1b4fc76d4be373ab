"""`mlip relax`: relax a structure with a saved potential."""

from __future__ import annotations

from mlip.cli.console import console
from mlip.cli.run_folder import (
    SUBJECT,
    file_with_hash,
    require_subject,
    write_config,
    write_json,
)
from mlip.cli.schema import RelaxConfig
from mlip.cli.structures import open_simulation


def run(settings: RelaxConfig) -> int:
    """Relax and write the result into the run folder.

    Returns:
        0 if the relaxation converged, else 1.
    """
    from mlip.simulation.relax import run_relax

    run_dir = settings.run.dir
    subject = {
        "model": file_with_hash(settings.model),
        "structure": f"{file_with_hash(settings.structure)}, frame {settings.index}",
    }
    require_subject(run_dir, subject)
    atoms, potential = open_simulation(settings)
    write_config(run_dir, settings)
    write_json(run_dir / SUBJECT, subject)
    result = run_relax(atoms, potential, settings.relax, run_dir, console=console())
    return 0 if result.converged else 1
