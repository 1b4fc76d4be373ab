"""The look shared by every figure: colours, axes, and saving without any global plotting state.

Figures are made with matplotlib's object-oriented interface on the Agg canvas, so nothing here
needs a display or touches `pyplot`. matplotlib is slow to load and imported on first use only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlip.errors import MlipError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (jfly.uni-koeln.de/color), told apart with every common colour blindness;
# its yellow is left out because it cannot be read on white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
INK = "#1a1a1a"
MUTED = "#666666"
GRID = "#dddddd"
FIGURE_WIDTH = 10.0
DPI = 140


def series_styles(count: int) -> Iterator[tuple[str, str, str]]:
    """Colour, marker and line style for `count` series, distinct even in black and white.

    A colour that comes again has another marker.
    """
    for index in range(count):
        marker = MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]
        yield PALETTE[index % len(PALETTE)], marker, LINES[index % len(LINES)]


def new_figure(
    height: float, rows: int = 1, columns: int = 1, height_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of the report's width with a grid of styled axes, row by row.

    Args:
        height: inches.
        rows: rows of axes.
        columns: columns of axes.
        height_ratios: relative height of each row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(FIGURE_WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, height_ratios=height_ratios).flat)
    for ax in axes:
        _style(ax)
    return figure, axes


def new_element_figure(subsets: Mapping[str, Mapping[str, float]]) -> tuple[Figure, Axes]:
    """A number for each element, one marker a subset, with a legend beside.

    Args:
        subsets: name to {element symbol: number}.
    """
    elements = list(dict.fromkeys(symbol for numbers in subsets.values() for symbol in numbers))
    figure, (ax,) = new_figure(3.2)
    offsets = np.linspace(-0.18, 0.18, len(subsets)) if len(subsets) > 1 else np.zeros(1)
    for (name, numbers), offset, (colour, marker, _) in zip(
        subsets.items(), offsets, series_styles(len(subsets)), strict=True
    ):
        x = [elements.index(symbol) + offset for symbol in numbers]
        ax.plot(x, list(numbers.values()), marker, color=colour, markersize=7, label=name)
    ax.set_xticks(range(len(elements)), elements, fontsize=10 if len(elements) < 40 else 6)
    ax.set_xlim(-0.6, len(elements) - 0.4)
    ax.grid(False, axis="x")
    legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, ax


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, making its folder.

    Raises:
        MlipError: when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": "mlip"})
    except OSError as error:
        raise MlipError(
            f"Cannot write the figure {path}: {error.strerror or error}; "
            "give an output folder that is writable and has space."
        ) from error
    return path


def annotate(ax: Axes, text: str) -> None:
    """A small boxed note in the upper left corner of the axes."""
    ax.text(
        0.03,
        0.97,
        text,
        transform=ax.transAxes,
        va="top",
        ha="left",
        fontsize=8.5,
        color=INK,
        linespacing=1.4,
        bbox={"facecolor": "white", "edgecolor": GRID, "boxstyle": "round,pad=0.4", "alpha": 0.9},
    )


def hide_unused(axes: Sequence[Axes], used: int) -> None:
    """Remove the axes of a grid that no panel fills."""
    for ax in axes[used:]:
        ax.remove()


def legend(ax: Axes, **options: object) -> None:
    """A frameless legend, left out when nothing is labelled."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=9, **options)


def _style(ax: Axes) -> None:
    ax.set_axisbelow(True)
    ax.grid(True, color=GRID, linewidth=0.7)
    ax.tick_params(colors=INK, labelsize=9, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    for label in (ax.title, ax.xaxis.label, ax.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(10)
