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
    legend,
    new_element_figure,
    new_figure,
    save_figure,
    series_styles,
)
from mlip.reporting.tables import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Above this many points single markers hide one another and a density is drawn instead.
MAX_MARKERS = 2000


def plot_parity(
    path: Path,
    subsets: Mapping[str, tuple[np.ndarray, np.ndarray]],
    unit: str,
    error_unit: str,
    error_factor: float = 1.0,
) -> Path:
    """Predicted against reference value with the error below, one column of panels a subset.

    Args:
        path: PNG to write.
        subsets: name to (reference, predicted), both of shape (n,), in `unit`.
        unit: unit of the axes.
        error_unit: unit of the errors.
        error_factor: from `unit` to `error_unit`.
    """
    columns = max(2, len(subsets)) if len(subsets) <= 4 else 3
    rows = -(-len(subsets) // columns)
    height = {2: 6.0, 3: 4.6, 4: 3.9}[columns]
    figure, axes = new_figure(height * rows, 2 * rows, columns, height_ratios=(3, 1.3) * rows)
    used = []
    for index, (name, (reference, predicted)) in enumerate(subsets.items()):
        row, column = divmod(index, columns)
        top = axes[2 * row * columns + column]
        bottom = axes[(2 * row + 1) * columns + column]
        used += [top, bottom]
        error = error_factor * (predicted - reference)
        _parity_panel(top, reference, predicted)
        _error_panel(bottom, reference, error)
        bottom.set_xlim(top.get_xlim())
        annotate(
            top,
            f"RMSE {format_number(np.sqrt(np.mean(error**2)))} {error_unit}\n"
            f"MAE {format_number(np.mean(np.abs(error)))} {error_unit}\n"
            f"n = {format_number(len(error))}",
        )
        top.set_title(name, fontweight="bold")
        top.tick_params(labelbottom=False)
        bottom.set_xlabel(f"reference ({unit})")
        if column == 0:
            top.set_ylabel(f"predicted ({unit})")
            bottom.set_ylabel(f"error ({error_unit})")
    for ax in axes:
        if ax not in used:
            ax.remove()
    return save_figure(figure, path)


def plot_error_histograms(path: Path, panels: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Distribution of the signed errors, one panel a quantity, one outline a subset.

    Errors beyond the drawn range (0.5 % of the widest subset) are counted in the outermost bins.

    Args:
        path: PNG to write.
        panels: axis label (with its unit) to {subset: errors of shape (n,)}.
    """
    figure, axes = new_figure(3.4, 1, len(panels))
    for ax, (label, subsets) in zip(axes, panels.items(), strict=True):
        reach = max((np.quantile(np.abs(e), 0.995) for e in subsets.values()), default=1.0)
        fewest = min((len(errors) for errors in subsets.values()), default=0)
        bins = int(np.clip(2 * np.sqrt(fewest), 12, 60)) // 2 * 2 + 1
        edges = np.linspace(-1, 1, bins + 1) * max(float(reach), 1e-12)
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
    figure, ax = new_element_figure(subsets)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("force RMSE (meV/Å)")
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
    ax.set_xlabel("size of the reference force (eV/Å)")
    ax.set_ylabel("force RMSE (meV/Å)")
    legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def _parity_panel(ax: Axes, reference: np.ndarray, predicted: np.ndarray) -> None:
    low = float(min(reference.min(), predicted.min()))
    high = float(max(reference.max(), predicted.max()))
    margin = 0.05 * max(high - low, 1e-9)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color=INK, linewidth=0.9, zorder=1)
    _points(ax, reference, predicted, (*limits, *limits))
    ax.set_xlim(limits)
    ax.set_ylim(limits)


def _error_panel(ax: Axes, reference: np.ndarray, error: np.ndarray) -> None:
    reach = 1.1 * max(float(np.max(np.abs(error))), 1e-9)
    ax.axhline(0, color=INK, linewidth=0.9, zorder=1)
    _points(ax, reference, error, (reference.min(), reference.max() + 1e-9, -reach, reach))
    ax.set_ylim(-reach, reach)


def _points(
    ax: Axes, x: np.ndarray, y: np.ndarray, extent: tuple[float, float, float, float]
) -> None:
    """Single markers, or where they would hide one another the logarithm of their density."""
    if len(x) <= MAX_MARKERS:
        ax.plot(x, y, "o", color=PALETTE[0], markersize=4, alpha=0.5, mew=0)
    else:
        ax.hexbin(
            x, y, gridsize=80, bins="log", mincnt=1, extent=extent, cmap="viridis", linewidths=0.1
        )
