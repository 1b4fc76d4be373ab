"""`write_report`: one self-contained page about a run, from the files of its folder."""

from __future__ import annotations

from pathlib import Path

from mlip.reporting import html
from mlip.reporting.run_folder import RunFolder, read_run_folder
from mlip.reporting.sections_errors import (
    distribution_section,
    element_section,
    parity_section,
    results_section,
)
from mlip.reporting.sections_run import (
    configuration_section,
    data_section,
    learning_section,
    model_section,
    timing_section,
)

SECTIONS = {
    "Results": results_section,
    "Learning curves": learning_section,
    "Parity": parity_section,
    "Error distributions": distribution_section,
    "Errors by element": element_section,
    "Timing": timing_section,
    "Data": data_section,
    "Configuration": configuration_section,
    "Model and versions": model_section,
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and `figures/*.png` into a run folder.

    The page is one file with the figures inside and can be sent around; what the folder lacks is
    said on the page. The files read are described in `mlip.reporting.run_folder`.

    Args:
        run_dir: the run folder.

    Returns:
        Path of the page.

    Raises:
        MlipError: when the folder is not a run folder, a file in it cannot be understood, or the
            page cannot be written.
    """
    run = read_run_folder(run_dir)
    figures = run_dir / "figures"
    sections = [(title, build(run, figures)) for title, build in SECTIONS.items()]
    page = html.page(f"Report: {run_dir.resolve().name}", _subtitle(run), sections)
    target = run_dir / "report.html"
    return html.write(target, page)


def _subtitle(run: RunFolder) -> str:
    parts = []
    if run.evaluation:
        count = len(run.evaluation)
        parts.append(f"{count} evaluated subset{'s' if count > 1 else ''}")
    if run.train:
        parts.append(f"{run.train[-1].get('epoch', 0):.4g} epochs")
        parts.append(f"{run.train[-1].get('seconds', 0) / 60:.1f} minutes of training")
    return ", ".join(parts)
