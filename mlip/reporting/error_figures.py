"""Figures of errors: parity, distributions, by element, by size of the force.

Every function writes one PNG and returns its path; the arrays carry their unit in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlip.reporting.style import (
    INK,
    PALETTE,
    annotate,
    hide_unused,
    legend,
    new_figure,
    save_figure,
    series_styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Above this many points single markers hide one another and a density is drawn instead.
MAX_MARKERS = 2000


def plot_parity(
    path: Path,
    subsets: Mapping[str, tuple[np.ndarray, np.ndarray]],
    quantity: str,
    unit: str,
    error_unit: str,
    error_factor: float = 1.0,
) -> Path:
    """Predicted against reference value, one panel a subset, errors written in.

    Args:
        path: PNG to write.
        subsets: name to (reference, predicted), both of shape (n,), in `unit`.
        quantity: what is plotted, for the axis labels.
        unit: unit of the axes.
        error_unit: unit of the errors written in.
        error_factor: from `unit` to `error_unit`.
    """
    columns = min(3, max(2, len(subsets)))
    rows = -(-len(subsets) // columns)
    figure, axes = new_figure((3.4 if columns == 3 else 4.6) * rows, rows, columns)
    for ax, (name, (reference, predicted)) in zip(axes, subsets.items(), strict=False):
        _parity_panel(figure, ax, reference, predicted)
        error = error_factor * (predicted - reference)
        annotate(
            ax,
            f"RMSE {np.sqrt(np.mean(error**2)):.3g} {error_unit}\n"
            f"MAE {np.mean(np.abs(error)):.3g} {error_unit}\n"
            f"n = {len(error):,}".replace(",", "\u202f"),
        )
        ax.set_title(name, fontweight="bold")
        ax.set_xlabel(f"reference {quantity} / {unit}")
        ax.set_ylabel(f"predicted {quantity} / {unit}")
    hide_unused(axes, len(subsets))
    return save_figure(figure, path)


def plot_error_histograms(
    path: Path, panels: Mapping[str, Mapping[str, np.ndarray]], bins: int = 61
) -> Path:
    """Distribution of the signed errors, one panel a quantity, one outline a subset.

    Errors beyond the drawn range (0.5 % of the widest subset) are counted in the outermost bins.

    Args:
        path: PNG to write.
        panels: axis label (with its unit) to {subset: errors of shape (n,)}.
        bins: number of bins.
    """
    figure, axes = new_figure(3.4, 1, len(panels))
    for ax, (label, subsets) in zip(axes, panels.items(), strict=True):
        reach = max((np.quantile(np.abs(e), 0.995) for e in subsets.values()), default=1.0)
        edges = np.linspace(-1, 1, bins) * max(float(reach), 1e-12)
        for (name, errors), (colour, _, line) in zip(
            subsets.items(), series_styles(len(subsets)), strict=True
        ):
            share, _ = np.histogram(np.clip(errors, edges[0], edges[-1]), bins=edges)
            share = 100 * share / max(len(errors), 1)
            ax.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6, label=name)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_xlabel(label)
        ax.set_ylabel("share of values / %")
        legend(ax)
    return save_figure(figure, path)


def plot_errors_by_element(path: Path, subsets: Mapping[str, Mapping[str, float]]) -> Path:
    """Force error of each element, one marker a subset.

    Args:
        path: PNG to write.
        subsets: name to {element symbol: force RMSE, meV/Å}.
    """
    elements = list(dict.fromkeys(symbol for errors in subsets.values() for symbol in errors))
    figure, (ax,) = new_figure(3.2)
    offsets = np.linspace(-0.18, 0.18, len(subsets)) if len(subsets) > 1 else np.zeros(1)
    for (name, errors), offset, (colour, marker, _) in zip(
        subsets.items(), offsets, series_styles(len(subsets)), strict=True
    ):
        x = [elements.index(symbol) + offset for symbol in errors]
        ax.plot(x, list(errors.values()), marker, color=colour, markersize=7, label=name)
    ax.set_xticks(range(len(elements)), elements, fontsize=10 if len(elements) < 40 else 6)
    ax.set_xlim(-0.6, len(elements) - 0.4)
    ax.set_ylim(bottom=0)
    ax.grid(False, axis="x")
    ax.set_ylabel("force RMSE / meV Å⁻¹")
    legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def plot_errors_by_force(
    path: Path, subsets: Mapping[str, tuple[np.ndarray, np.ndarray]], bins: int = 10
) -> Path:
    """Force error against the size of the reference force, in bins of equal counts.

    Args:
        path: PNG to write.
        subsets: name to (norm of the reference force in eV/Å, RMSE over the three components
            in meV/Å), both per atom, shape (n,).
        bins: number of bins.
    """
    figure, (ax,) = new_figure(3.2)
    for (name, (norms, errors)), (colour, marker, line) in zip(
        subsets.items(), series_styles(len(subsets)), strict=True
    ):
        groups = np.array_split(np.argsort(norms), min(bins, len(norms)))
        x = [float(np.mean(norms[group])) for group in groups]
        y = [float(np.sqrt(np.mean(errors[group] ** 2))) for group in groups]
        ax.plot(x, y, line, marker=marker, color=colour, markersize=5, linewidth=1.4, label=name)
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("size of the reference force / eV Å⁻¹")
    ax.set_ylabel("force RMSE / meV Å⁻¹")
    legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def _parity_panel(figure: Figure, ax: Axes, reference: np.ndarray, predicted: np.ndarray) -> None:
    low = float(min(reference.min(), predicted.min()))
    high = float(max(reference.max(), predicted.max()))
    margin = 0.05 * max(high - low, 1e-9)
    limits = (low - margin, high + margin)
    ax.axline((low, low), (high + margin, high + margin), color=INK, linewidth=0.9, zorder=1)
    if len(reference) <= MAX_MARKERS:
        ax.plot(reference, predicted, "o", color=PALETTE[0], markersize=4, alpha=0.5, mew=0)
    else:
        drawn = ax.hexbin(
            reference,
            predicted,
            gridsize=70,
            bins="log",
            mincnt=1,
            extent=(*limits, *limits),
            cmap="viridis",
            linewidths=0.1,
        )
        bar = figure.colorbar(drawn, ax=ax, fraction=0.046, pad=0.02)
        bar.set_label("values per cell", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    ax.set_aspect("equal")
