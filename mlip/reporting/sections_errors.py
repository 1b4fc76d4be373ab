"""The sections of the report about errors: tables, parity, distributions, elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mlip.reporting import html
from mlip.reporting.error_figures import (
    MAX_MARKERS,
    plot_error_histograms,
    plot_errors_by_element,
    plot_errors_by_force,
    plot_parity,
)
from mlip.reporting.run_folder import Row, RunFolder
from mlip.reporting.tables import error_columns, format_number

NO_EVALUATION = "evaluation.json is not in the run folder; `mlip evaluate` writes it."
NO_PREDICTIONS = "predictions.npz is not in the run folder; `mlip evaluate` writes it."

DENSITY_NOTE = (
    f"Above {MAX_MARKERS} values the colour shows how many fall together, from dark (one) to "
    "bright (most), on a logarithmic scale."
)

Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def results_section(run: RunFolder, figures: Path) -> list[str]:
    """The error table, one row a subset."""
    if not run.evaluation:
        return [html.paragraph(NO_EVALUATION, "missing")]
    columns = error_columns(run.evaluation)
    rows = [
        [name, *(format_number(errors.get(column.key)) for column in columns)]
        for name, errors in run.evaluation.items()
    ]
    return [
        html.table(
            "Errors by subset. Force errors are per Cartesian component.",
            [("subset", ""), *((column.title, column.unit) for column in columns)],
            rows,
        )
    ]


def parity_section(run: RunFolder, figures: Path) -> list[str]:
    """Predicted against reference energies, forces and stresses."""
    if not run.predictions:
        return [html.paragraph(NO_PREDICTIONS, "missing")]
    parts = []
    energies, forces, stresses = energy_pairs(run), force_pairs(run), _stress_pairs(run)
    if energies:
        path = plot_parity(figures / "parity_energy.png", energies, "meV/atom", "meV/atom")
        parts.append(
            html.figure(
                path,
                "Energy per atom: interaction energy (total energy minus ΣE0), relative to the "
                "mean reference of each subset, and below predicted minus reference. "
                + DENSITY_NOTE,
            )
        )
    if forces:
        path = plot_parity(figures / "parity_forces.png", forces, "eV/Å", "meV/Å", 1e3)
        parts.append(
            html.figure(
                path, f"Force components, and below predicted minus reference. {DENSITY_NOTE}"
            )
        )
    if stresses:
        path = plot_parity(figures / "parity_stress.png", stresses, "meV/Å³", "meV/Å³")
        parts.append(html.figure(path, f"Stress components, tensile positive. {DENSITY_NOTE}"))
    return parts or [html.paragraph("predictions.npz holds no labelled value.", "missing")]


def distribution_section(run: RunFolder, figures: Path) -> list[str]:
    """Histograms of the errors, and the force error against the size of the force."""
    if not run.predictions:
        return [html.paragraph(NO_PREDICTIONS, "missing")]
    energies, forces = energy_pairs(run), force_pairs(run)
    panels = {
        label: {name: factor * (pair[1] - pair[0]) for name, pair in pairs.items()}
        for label, pairs, factor in (
            ("energy error (meV/atom)", energies, 1.0),
            ("force error (meV/Å)", forces, 1e3),
        )
        if pairs
    }
    parts = []
    if panels:
        path = plot_error_histograms(figures / "error_histograms.png", panels)
        parts.append(
            html.figure(
                path,
                "Predicted minus reference. Errors beyond the drawn range are counted in the "
                "outermost bins.",
            )
        )
    if forces:
        by_force = {
            name: (
                np.linalg.norm(reference.reshape(-1, 3), axis=1),
                1e3 * np.sqrt(np.mean((predicted - reference).reshape(-1, 3) ** 2, axis=1)),
            )
            for name, (reference, predicted) in forces.items()
        }
        path = plot_errors_by_force(figures / "errors_by_force.png", by_force)
        parts.append(
            html.figure(
                path,
                "Force error (per component) of atoms grouped by the size of their reference "
                "force, in ten groups of equal count.",
            )
        )
    return parts or [html.paragraph("predictions.npz holds no labelled value.", "missing")]


def element_section(run: RunFolder, figures: Path) -> list[str]:
    """Force errors by element and subset, drawn and as a table."""
    by_subset = {
        name: errors["forces_by_element"]
        for name, errors in run.evaluation.items()
        if errors.get("forces_by_element")
    }
    if not by_subset:
        text = "The evaluation holds no force labels." if run.evaluation else NO_EVALUATION
        return [html.paragraph(text, "missing")]
    rmse = {
        name: {symbol: values["rmse_mev_per_a"] for symbol, values in elements.items()}
        for name, elements in by_subset.items()
    }
    path = plot_errors_by_element(figures / "errors_by_element.png", rmse)
    elements = dict.fromkeys(symbol for errors in by_subset.values() for symbol in errors)
    header = [("element", ""), ("atoms", "")]
    for name in by_subset:
        header += [(name, "MAE, meV/Å"), (name, "RMSE, meV/Å")]
    rows = [_element_row(symbol, by_subset.values()) for symbol in elements]
    return [
        html.figure(path, "Force error (RMSE per component) of the atoms of each element."),
        html.table("Force errors by element and subset, per Cartesian component.", header, rows),
    ]


def _element_row(symbol: str, subsets: Iterable[Mapping[str, Row]]) -> list[str]:
    """Symbol, atoms in all subsets together, then MAE and RMSE of every subset."""
    values = [elements.get(symbol, {}) for elements in subsets]
    atoms = sum(row.get("num_atoms", 0) for row in values)
    errors = [row.get(key) for row in values for key in ("mae_mev_per_a", "rmse_mev_per_a")]
    return [symbol, format_number(atoms), *map(format_number, errors)]


def energy_pairs(run: RunFolder) -> Pairs:
    """Reference and predicted interaction energy, meV/atom, less the mean reference."""
    pairs = {}
    for name, arrays in run.predictions.items():
        kept = np.isfinite(arrays["energy_reference"])
        if not np.any(kept):
            continue
        atoms = arrays["num_atoms"][kept]
        reference = 1e3 * (arrays["energy_reference"] - arrays["e0"])[kept] / atoms
        predicted = 1e3 * (arrays["energy"] - arrays["e0"])[kept] / atoms
        origin = np.mean(reference)
        pairs[name] = (reference - origin, predicted - origin)
    return pairs


def force_pairs(run: RunFolder) -> Pairs:
    """Reference and predicted force components of labelled atoms, eV/Å, flat."""
    pairs = {}
    for name, arrays in run.predictions.items():
        kept = np.all(np.isfinite(arrays["forces_reference"]), axis=1)
        if np.any(kept):
            pairs[name] = (
                arrays["forces_reference"][kept].ravel(),
                arrays["forces"][kept].ravel(),
            )
    return pairs


def _stress_pairs(run: RunFolder) -> Pairs:
    """Reference and predicted components of labelled stresses, meV/Å³, flat."""
    pairs = {}
    for name, arrays in run.predictions.items():
        if "stress_reference" not in arrays:
            continue
        reference, predicted = arrays["stress_reference"], arrays["stress"]
        kept = np.all(np.isfinite(reference) & np.isfinite(predicted), axis=(1, 2))
        if np.any(kept):
            pairs[name] = (
                1e3 * reference[kept].ravel(),
                1e3 * predicted[kept].ravel(),
            )
    return pairs
