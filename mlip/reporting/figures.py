"""Figures of a run in time: learning curves, timing, and the energy along a trajectory.

Every function writes one PNG and returns its path; the arrays carry their unit in the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from mlip.reporting.style import (
    INK,
    MUTED,
    PALETTE,
    annotate,
    hide_unused,
    legend,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# From here on markers merge into a band, and lines that scatter need to be thin.
MANY_POINTS = 50


class Curve(NamedTuple):
    """One quantity along a run; the three arrays have the same length.

    Attributes:
        epochs: position in the run, epochs (fractional inside an epoch).
        minutes: position in the run, minutes of training.
        values: the quantity; NaN where it was not recorded.
    """

    epochs: np.ndarray
    minutes: np.ndarray
    values: np.ndarray


def plot_learning_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Curve]],
    axis: Literal["epochs", "minutes"] = "epochs",
    stages: Sequence[tuple[float, str]] = (),
) -> Path:
    """One panel a quantity, one line a split, on a logarithmic scale.

    Args:
        path: PNG to write.
        panels: axis label (with its unit) to {split: curve}.
        axis: the horizontal axis.
        stages: positions along that axis where the run changed, with their names.
    """
    columns = 3 if len(panels) in (3, 5, 6) else 2
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(2.9 * rows, rows, columns)
    styles = {"train": ("-", PALETTE[0]), "valid": ("--", PALETTE[1])}
    for ax, (label, curves) in zip(axes, panels.items(), strict=False):
        for name, curve in curves.items():
            line, colour = styles.get(name, ("-", INK))
            x = getattr(curve, axis)
            kept = np.isfinite(curve.values)
            ax.plot(
                x[kept],
                curve.values[kept],
                line,
                color=colour,
                marker=_marker(x[kept]),
                linewidth=0.8 if name == "train" else 1.6,
                label=name if name in styles else None,
            )
        for position, name in stages:
            ax.axvline(position, color=MUTED, linewidth=0.9, linestyle=":")
            ax.annotate(
                name,
                (position, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-3, -3),
                textcoords="offset points",
                fontsize=8,
                rotation=90,
                va="top",
                ha="right",
                color=MUTED,
            )
        _log_if_positive(ax, np.concatenate([curve.values for curve in curves.values()]))
        _label_position(ax, axis)
        ax.set_ylabel(label)
        legend(ax)
    hide_unused(axes, len(panels))
    return save_figure(figure, path)


def plot_timing(path: Path, panels: Mapping[str, Curve]) -> Path:
    """Times along a run, one panel each, with their median.

    Args:
        path: PNG to write.
        panels: axis label, ending in its unit in brackets, to the times.
    """
    figure, axes = new_figure(2.9, 1, 2)
    for ax, (label, curve) in zip(axes, panels.items(), strict=False):
        kept = np.isfinite(curve.values)
        epochs, values = curve.epochs[kept], curve.values[kept]
        median = float(np.median(values))
        # One slow step, such as a compilation, must not flatten all the others.
        top = 1.5 * float(np.quantile(values, 0.98))
        ax.plot(epochs, values, color=PALETTE[0], linewidth=1.2, marker=_marker(values))
        ax.axhline(median, color=PALETTE[1], linewidth=1.2, linestyle="--")
        annotate(ax, f"median {median:.3g} {label.partition('(')[2].rstrip(')')}")
        ax.set_ylim(0, top)
        _label_position(ax, "epochs")
        ax.set_ylabel(label)
    hide_unused(axes, len(panels))
    return save_figure(figure, path)


def plot_energy_drift(
    path: Path, time_ps: np.ndarray, total_energy_mev_per_atom: np.ndarray, drift: float
) -> Path:
    """Total energy along a trajectory, relative to its first frame, with the fitted drift.

    Args:
        path: PNG to write.
        time_ps: ps, shape (n,).
        total_energy_mev_per_atom: potential plus kinetic energy, meV/atom, shape (n,).
        drift: slope of the least-squares line, meV/atom/ps.
    """
    relative = total_energy_mev_per_atom - total_energy_mev_per_atom[0]
    line = np.mean(relative) + drift * (time_ps - np.mean(time_ps))
    figure, (ax,) = new_figure(3.6)
    ax.plot(time_ps, relative, color=PALETTE[0], linewidth=1.2, label="total energy")
    ax.plot(time_ps, line, "--", color=PALETTE[1], linewidth=1.8, label="fitted drift")
    fluctuation = float(np.std(relative - line))
    annotate(ax, f"drift {drift:+.3g} meV/atom/ps\nfluctuation {fluctuation:.3g} meV/atom (std)")
    low, high = float(np.min(relative)), float(np.max(relative))
    span = max(high - low, 1e-9)
    ax.set_ylim(low - 0.1 * span, high + 0.45 * span)
    ax.set_xlabel("time (ps)")
    ax.set_ylabel("E(t) − E(0) (meV/atom)")
    legend(ax, loc="upper right")
    return save_figure(figure, path)


def _label_position(ax: Axes, axis: Literal["epochs", "minutes"]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch" if axis == "epochs" else "training time (min)")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=axis == "epochs"))


def _marker(values: np.ndarray) -> str | None:
    return "." if len(values) < MANY_POINTS else None


def _log_if_positive(ax: Axes, values: np.ndarray) -> None:
    """Logarithmic axis when every value allows one, with more ticks where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = values[np.isfinite(values)]
    if not finite.size or np.any(finite <= 0):
        return
    ax.set_yscale("log")
    if np.max(finite) / np.min(finite) < 300:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
