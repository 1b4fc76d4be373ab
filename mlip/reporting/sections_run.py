"""The sections of the report about the run: curves, timing, data, configuration, versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlip.reporting import html
from mlip.reporting.figures import Curve, plot_learning_curves, plot_timing
from mlip.reporting.run_folder import Row, RunFolder
from mlip.reporting.tables import format_number

NO_METRICS = "metrics.jsonl is not in the run folder; `mlip train` writes it."
NO_CONFIG = "config.yaml is not in the run folder; `mlip train` writes it."
NO_MODEL = "model.mlip is not in the run folder; `mlip train` writes it when it ends."

CURVES = {
    "loss": "loss",
    "energy RMSE (meV/atom)": "energy_rmse_mev_per_atom",
    "force RMSE (meV/Å)": "forces_rmse_mev_per_a",
    "stress RMSE (meV/Å³)": "stress_rmse_mev_per_a3",
}


def learning_section(run: RunFolder, figures: Path) -> list[str]:
    """Loss, errors and learning rate over epochs and over time."""
    if not (run.train or run.valid):
        return [html.paragraph(NO_METRICS, "missing")]
    panels: dict[str, dict[str, Curve]] = {}
    for label, key in CURVES.items():
        curves = {"train": _curve(run.train, key), "valid": _curve(run.valid, key)}
        curves = {n: curve for n, curve in curves.items() if np.any(np.isfinite(curve.values))}
        if curves:
            panels[label] = curves
    rate = _curve(run.train, "lr")
    if np.any(np.isfinite(rate.values)):
        panels["learning rate"] = {"": rate}
    stages = run.events_named("stage")
    marks = {
        key: [(float(row[key]), str(row.get("name", "stage"))) for row in stages if key in row]
        for key in ("epoch", "seconds")
    }
    over_epochs = plot_learning_curves(
        figures / "learning_epochs.png", panels, "epochs", marks["epoch"]
    )
    panels.pop("learning rate", None)
    over_time = plot_learning_curves(
        figures / "learning_time.png",
        panels,
        "minutes",
        [(seconds / 60, name) for seconds, name in marks["seconds"]],
    )
    return [
        html.figure(over_epochs, "Loss, errors and learning rate over epochs."),
        html.figure(over_time, "Loss and errors over training time."),
    ]


def timing_section(run: RunFolder, figures: Path) -> list[str]:
    """Where the time went: epochs, steps, compilation, waiting for data, padding."""
    if not run.train:
        return [html.paragraph(NO_METRICS, "missing")]
    compilations = run.events_named("compile")
    last = run.train[-1]
    waits = _values(run.train, "data_wait_seconds")
    seconds = [float(row["seconds"]) for row in compilations if "seconds" in row]
    start = _last(run.events_named("start"))
    pairs = [
        ("training time", f"{last.get('seconds', float('nan')) / 60:.1f} min"),
        ("epochs", _epoch_text(last.get("epoch"))),
        ("optimiser steps", format_number(last.get("step"))),
        ("compilations", f"{len(compilations)}, {sum(seconds):.1f} s in all"),
        ("waiting for data", f"{np.nansum(waits):.1f} s in all" if waits.size else "not recorded"),
        ("padding share of the edges", _percent(start.get("padding_share"))),
        ("batch shapes", _shapes(start.get("shapes"))),
        ("device", str(start.get("device", "not recorded"))),
        ("resumed", f"{len(run.events_named('resume'))} times"),
    ]
    parts = [html.facts(pairs)]
    panels = {
        "epoch time (s)": _curve(run.train, "epoch_seconds"),
        "training step (ms)": _curve(run.train, "step_ms"),
    }
    panels = {label: curve for label, curve in panels.items() if np.any(np.isfinite(curve.values))}
    if panels:
        path = plot_timing(figures / "timing.png", panels)
        parts.append(
            html.figure(
                path, "Wall-clock time of every epoch, and median time of the steps of each row."
            )
        )
    if compilations:
        rows = [
            [
                f"{row.get('function', '')}: {row.get('shape', '')}",
                format_number(row.get("step")),
                format_number(row.get("seconds")),
            ]
            for row in compilations
        ]
        header = [("function and batch shape", ""), ("at step", ""), ("time", "s")]
        parts.append(
            html.table("Compilations: one for each function and batch shape.", header, rows)
        )
    return parts


def data_section(run: RunFolder, figures: Path) -> list[str]:
    """The subsets in numbers, warnings of the data check, reference energies of the elements."""
    subsets = run.metadata.get("provenance", {}).get("data", {}).get("subsets")
    parts = [_subsets_table(subsets)] if subsets else []
    warnings = [str(row.get("message", "")) for row in run.events_named("data_warning")]
    if warnings:
        parts.append(html.bullets(warnings, "warnings"))
    elif run.events:
        parts.append(html.paragraph("The data check before training gave no warning."))
    else:
        parts.append(html.paragraph(NO_METRICS, "missing"))
    e0 = run.metadata.get("e0")
    if isinstance(e0, dict):
        rows = [[symbol, f"{float(value):.6f}"] for symbol, value in e0.items()]
        origin = run.metadata.get("provenance", {}).get("e0_origin", "not recorded")
        parts.append(
            html.table(
                f"Energies of the isolated atoms (E0); origin: {origin}.",
                [("element", ""), ("E0", "eV")],
                rows,
            )
        )
    return parts


def _subsets_table(subsets: dict[str, Row]) -> str:
    header = [
        ("subset", ""), ("structures", ""), ("atoms in one", ""), ("elements", ""),
        ("mean E − ΣE0", "eV/atom"), ("its spread", "eV/atom"),
        ("RMS force component", "eV/Å"), ("largest", "eV/Å"),
    ]  # fmt: skip
    numbers = (
        "energy_mean_ev_per_atom", "energy_spread_ev_per_atom",
        "forces_rms_ev_per_a", "forces_max_ev_per_a",
    )  # fmt: skip
    rows, sampled = [], []
    for name, found in subsets.items():
        smallest, largest = found["atoms"]
        rows.append(
            [
                name,
                format_number(found["structures"]),
                f"{smallest}" if smallest == largest else f"{smallest}–{largest}",
                " ".join(found["elements"]),
                *(format_number(found[key]) for key in numbers),
            ]
        )
        if found["looked_at"] < found["structures"]:
            sampled.append(f"{found['looked_at']:,} structures of {name}")
    note = f" A sample was looked at: {', '.join(sampled)}." if sampled else ""
    return html.table(f"The data, with E0 as below.{note}", header, rows)


def configuration_section(run: RunFolder, figures: Path) -> list[str]:
    """The resolved configuration, folded away."""
    if not run.config:
        return [html.paragraph(NO_CONFIG, "missing")]
    count = len(run.config.splitlines())
    return [html.folded(f"config.yaml ({count} lines)", run.config)]


def model_section(run: RunFolder, figures: Path) -> list[str]:
    """What the saved model is, and the versions of the libraries it was made with."""
    if not run.metadata:
        return [html.paragraph(NO_MODEL, "missing")]
    provenance = run.metadata.get("provenance", {})
    data = provenance.get("data", {})
    pairs = {
        "elements": " ".join(run.metadata.get("elements", [])),
        "cutoff": f"{run.metadata.get('cutoff')} Å",
        "precision": run.metadata.get("precision"),
        "parameters": format_number(_last(run.events_named("start")).get("num_parameters")),
        "data set": data.get("name"),
        "fingerprint of the training data": data.get("fingerprint"),
        **{f"version of {name}": value for name, value in provenance.get("versions", {}).items()},
    }
    return [html.facts([(name, str(value)) for name, value in pairs.items() if value is not None])]


def _curve(rows: Sequence[Row], key: str) -> Curve:
    return Curve(_epochs(rows), _values(rows, "seconds") / 60, _values(rows, key))


def _epochs(rows: Sequence[Row]) -> np.ndarray:
    return _values(rows, "epoch")


def _values(rows: Sequence[Row], key: str) -> np.ndarray:
    """One key of every row as floats, NaN where a row lacks it."""
    return np.array(
        [np.nan if row.get(key) is None else float(row[key]) for row in rows], dtype=np.float64
    )


def _epoch_text(epoch: Any) -> str:
    return "not recorded" if epoch is None else f"{float(epoch):.4g}"


def _last(rows: Sequence[Row]) -> Row:
    return rows[-1] if rows else {}


def _percent(share: Any) -> str:
    return "not recorded" if share is None else f"{100 * float(share):.1f} %"


def _shapes(shapes: Any) -> str:
    return "; ".join(map(str, shapes)) if shapes else "not recorded"
