"""`write_data_report`: one self-contained page about labelled structures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlip.data.inspection import Inspected, Inspection
from mlip.data.structure import Structure
from mlip.reporting import html
from mlip.reporting.data_figures import plot_distributions, plot_elements, plot_stress
from mlip.reporting.tables import NOT_KNOWN, format_number

QUANTITIES = (
    "records", "looked at", "of them unusable", "atoms in a structure", "elements",
    "labelled: energy", "labelled: forces", "labelled: stress", "energies are",
    "E − ΣE0, eV/atom", "RMS force component, eV/Å", "largest, eV/Å",
)  # fmt: skip


def summary_rows(inspection: Inspection) -> list[list[str]]:
    """One row for each quantity: its name, and what it is in each subset."""
    columns = [_summary(inspection, subset) for subset in inspection.subsets.values()]
    return [list(row) for row in zip(QUANTITIES, *columns, strict=True)]


def _summary(inspection: Inspection, subset: Inspected) -> list[str]:
    """The cells of a subset, in the order of `QUANTITIES`."""
    sizes = [len(s) for s in subset.structures]
    forces = _all(subset, lambda s: None if s.forces is None else s.forces.ravel())
    labelled = [
        sum(getattr(s, label) is not None for s in subset.structures)
        for label in ("energy", "forces", "stress")
    ]
    return [
        format_number(subset.records),
        format_number(len(subset.structures) + len(subset.faults)),
        format_number(len(subset.faults)),
        f"{min(sizes)}–{max(sizes)}",
        _symbols(subset),
        *map(format_number, labelled),
        subset.reference if labelled[0] else NOT_KNOWN,
        _mean_and_spread(_deviations(inspection, subset)),
        format_number(float(np.sqrt(np.mean(forces**2))) if forces.size else None),
        format_number(float(np.abs(forces).max()) if forces.size else None),
    ]


def reading_note(inspection: Inspection) -> str:
    """How much was read, in a sentence."""
    sampled = [
        f"{len(subset.structures) + len(subset.faults):,} of the {subset.records:,} records of "
        f"{name}"
        for name, subset in inspection.subsets.items()
        if subset.sampled
    ]
    if not sampled:
        return "All records were read."
    return (
        f"Only a sample was read: {', '.join(sampled)}, drawn at random, always the same ones. "
        "What is rare may be missing, and so may duplicates."
    )


def write_data_report(folder: Path, title: str, inspection: Inspection) -> Path:
    """Write `inspection.html` and `figures/*.png`; the page has the figures inside.

    Args:
        folder: where to write.
        title: of the page.
        inspection: what was found.

    Raises:
        MlipError: when it cannot be written.
    """
    figures = folder / "figures"
    found = inspection.findings
    header = [("", ""), *((name, "") for name in inspection.subsets)]
    sections = [
        ("Findings", _findings(found.fatal, found.warnings, found.facts)),
        ("Subsets", [html.table("", header, summary_rows(inspection))]),
        ("Distributions", _distributions(inspection, figures)),
        ("Elements", _elements(inspection, figures)),
        ("Stress", _stress(inspection, figures)),
    ]
    page = html.page(title, reading_note(inspection), sections)
    target = folder / "inspection.html"
    return html.write(target, page)


def _findings(fatal: list[str], warnings: list[str], facts: list[str]) -> list[str]:
    parts = []
    if fatal:
        parts += [
            html.paragraph("Training would refuse these data:"),
            html.bullets(fatal, "warnings"),
        ]
    if warnings:
        parts += [html.paragraph("These deserve a look:"), html.bullets(warnings, "warnings")]
    if not parts:
        parts.append(html.paragraph("Nothing suspicious was found."))
    return [*parts, html.bullets(facts)]


def _distributions(inspection: Inspection, figures: Path) -> list[str]:
    quantities: dict[str, Callable[[Inspected], np.ndarray]] = {
        "atoms in a structure": lambda subset: np.array([len(s) for s in subset.structures]),
        "E − ΣE0 (eV/atom)": lambda subset: _deviations(inspection, subset),
        "force component (eV/Å)": lambda subset: _all(
            subset, lambda s: None if s.forces is None else s.forces.ravel()
        ),
        "stress component (eV/Å³)": lambda subset: _all(
            subset, lambda s: None if s.stress is None else s.stress.ravel()
        ),
    }
    panels = {}
    for label, quantity in quantities.items():
        values = {name: quantity(subset) for name, subset in inspection.subsets.items()}
        values = {name: value for name, value in values.items() if value.size}
        if values:
            panels[label] = values
    path = plot_distributions(figures / "distributions.png", panels)
    parts = [html.figure(path, "Sizes and labels; the shares are on a logarithmic scale.")]
    if inspection.e0 is not None:
        parts.append(html.folded("E0", inspection.e0.table()))
    return parts


def _elements(inspection: Inspection, figures: Path) -> list[str]:
    from ase.data import chemical_symbols

    shares = {}
    for name, subset in inspection.subsets.items():
        present = [np.unique(s.numbers) for s in subset.structures]
        numbers, counts = np.unique(np.concatenate(present), return_counts=True)
        shares[name] = {
            chemical_symbols[number]: 100 * count / len(present)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        }
    path = plot_elements(figures / "elements.png", shares)
    return [html.figure(path, "Share of the structures that contain each element.")]


def _stress(inspection: Inspection, figures: Path) -> list[str]:
    points = {}
    for name, subset in inspection.subsets.items():
        labelled = [(s, s.stress) for s in subset.structures if s.stress is not None]
        if labelled:
            volumes = [abs(np.linalg.det(s.cell)) / len(s) for s, _ in labelled]
            means = [np.trace(stress) / 3 for _, stress in labelled]
            points[name] = (np.array(volumes), np.array(means))
    if not points:
        return [html.paragraph("No structure has a stress label.", "missing")]
    path = plot_stress(figures / "stress.png", points)
    caption = (
        "Mean normal stress, positive under tension: expanded cells lie above compressed ones."
    )
    return [html.figure(path, caption)]


def _all(subset: Inspected, values: Callable[[Structure], np.ndarray | None]) -> np.ndarray:
    found = [value for s in subset.structures if (value := values(s)) is not None]
    return np.concatenate([np.zeros(0), *found])


def _deviations(inspection: Inspection, subset: Inspected) -> np.ndarray:
    """(E − ΣE0)/n of the structures that have both, eV/atom."""
    e0 = inspection.e0
    if e0 is None:
        return np.zeros(0)
    return np.array(
        [
            (s.energy - e0.sum(s)) / len(s)
            for s in subset.structures
            if s.energy is not None and set(s.numbers.tolist()) <= e0.values.keys()
        ]
    )


def _mean_and_spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std():.3f}" if values.size else NOT_KNOWN


def _symbols(subset: Inspected) -> str:
    from ase.data import chemical_symbols

    numbers = np.unique(np.concatenate([s.numbers for s in subset.structures]))
    named = " ".join(chemical_symbols[number] for number in numbers[:12])
    return named + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
