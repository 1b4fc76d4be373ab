"""Figures of labelled structures: sizes, labels, elements, stress against volume.

Every function writes one PNG and returns its path; the arrays carry their unit in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlip.reporting.style import (
    hide_unused,
    legend,
    new_element_figure,
    new_figure,
    save_figure,
    series_styles,
)

BINS = 50


def plot_distributions(path: Path, panels: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Distribution of some quantities, one panel each, one outline a subset.

    Whole numbers that span little get a bin each. The axis of the shares is logarithmic, so that
    rare values show.

    Args:
        path: PNG to write.
        panels: axis label (with its unit) to {subset: values of shape (n,)}.
    """
    rows = -(-len(panels) // 2)
    figure, axes = new_figure(3.0 * rows, rows, 2)
    names = list(dict.fromkeys(name for subsets in panels.values() for name in subsets))
    styles = dict(zip(names, series_styles(len(names)), strict=True))
    for ax, (label, subsets) in zip(axes, panels.items(), strict=False):
        edges = _edges(np.concatenate(list(subsets.values())))
        for name, values in subsets.items():
            colour, _, line = styles[name]
            counts, _ = np.histogram(values, bins=edges)
            share = 100 * counts / max(len(values), 1)
            ax.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6, label=name)
        ax.set_yscale("log")
        ax.set_xlabel(label)
        ax.set_ylabel("share of values / %")
        legend(ax)
    hide_unused(axes, len(panels))
    return save_figure(figure, path)


def plot_elements(path: Path, subsets: Mapping[str, Mapping[str, float]]) -> Path:
    """Share of the structures that contain each element, one marker a subset.

    Args:
        path: PNG to write.
        subsets: name to {element symbol: share of the structures, %}.
    """
    figure, ax = new_element_figure(subsets)
    ax.set_yscale("log")
    ax.set_ylabel("structures with the element / %")
    return save_figure(figure, path)


def plot_stress(path: Path, subsets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Mean normal stress against the volume per atom.

    Args:
        path: PNG to write.
        subsets: name to (volume in Å³/atom, stress in eV/Å³, positive under tension), shape (n,).
    """
    figure, (ax,) = new_figure(3.2)
    for (name, (volume, stress)), (colour, marker, _) in zip(
        subsets.items(), series_styles(len(subsets)), strict=True
    ):
        ax.plot(volume, stress, marker, color=colour, markersize=4, alpha=0.6, mew=0, label=name)
    ax.set_xlabel("volume (Å³/atom)")
    ax.set_ylabel("mean normal stress (eV/Å³)")
    legend(ax)
    return save_figure(figure, path)


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins that cover all values."""
    low, high = float(np.min(values)), float(np.max(values))
    if np.issubdtype(values.dtype, np.integer) and high - low <= BINS:
        return np.arange(low - 0.5, high + 1)
    margin = max(0.01 * (high - low), 1e-9 * max(abs(low), abs(high), 1.0))
    return np.linspace(low - margin, high + margin, BINS + 1)
