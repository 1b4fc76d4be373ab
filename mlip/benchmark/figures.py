"""Figures of the benchmark: time by degree, time for what it buys, and the best trade-offs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from mlip.benchmark.grid import CONVOLUTIONS, Task
from mlip.benchmark.records import Row
from mlip.benchmark.styles import Style, operator_styles
from mlip.benchmark.summary import MODES, TITLES, Section, main_sections, sections
from mlip.reporting.style import (
    INK,
    MUTED,
    hide_unused,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMNS = 2
WIDE_TASKS: tuple[Task, ...] = ("all_to_all", "all_to_lmax")  # which expressivity tells apart

TITLE_WIDTH = 58  # characters of a line above a panel

Styles = Mapping[str, Style]


def write_figures(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Write all figures that the results allow, one set for each number of channels.

    Args:
        folder: for the PNGs.
        rows: the results.
    """
    measured = [row for row in rows if row.median_ms is not None]
    style = operator_styles(row.operator for row in measured)
    products = [row for row in measured if row.task not in CONVOLUTIONS]
    written = []
    for channels in sorted({row.channels for row in products}):
        some = [row for row in products if row.channels == channels]
        end = f"_{channels}_channel{'s' * (channels > 1)}.png"
        written.append(plot_times(folder / f"time{end}", some, style, _time, "time (ms)"))
        some = [row for row in some if row.expressivity]
        if some:
            path, label = folder / f"time_per_expressivity{end}", "time / expressivity (ms)"
            written.append(plot_times(path, some, style, _per_expressivity, label))
        some = [row for row in some if row.task in WIDE_TASKS]
        if some:
            written.append(plot_fronts(folder / f"front{end}", some, style))
    convolutions = [row for row in measured if row.task in CONVOLUTIONS]
    if convolutions:
        path = folder / "convolution.png"
        written.append(plot_times(path, convolutions, style, _time, "time (ms)"))
    return written


def plot_times(
    path: Path,
    rows: Sequence[Row],
    style: Styles,
    quantity: Callable[[Row, float], float],
    axis_label: str,
) -> Path:
    """One panel for each task and mode, one line for each operator, quartiles as bars.

    Where there is a single degree the operators are listed by their times.

    Args:
        path: PNG to write.
        rows: measured ones.
        style: of the operators.
        quantity: of a row and one of its times in ms.
        axis_label: what that is.
    """
    panels = _panels(rows)
    figure, axes = new_figure(*_grid(len(panels)))
    in_lines: list[Row] = []
    for ax, (section, group) in zip(axes, panels, strict=False):
        if len({row.degree for row in group}) > 1:
            in_lines += group
            _draw_lines(ax, group, style, quantity)
            ax.set_ylabel(axis_label)
        else:
            _draw_ranking(ax, group, style, quantity)
            ax.set_xlabel(axis_label)
        _title(ax, section, group)
    hide_unused(axes, len(panels))
    _legend(figure, in_lines, style)
    return save_figure(figure, path)


def plot_fronts(path: Path, rows: Sequence[Row], style: Styles) -> Path:
    """Time against expressivity: who is neither slower nor less expressive than another.

    Args:
        path: PNG to write.
        rows: measured ones with an expressivity.
        style: of the operators.
    """
    panels = list(_front_panels(rows))
    figure, axes = new_figure(*_grid(len(panels)))
    for ax, (title, group) in zip(axes, panels, strict=False):
        _draw_front(ax, group, style)
        _set_title(ax, title)
    hide_unused(axes, len(panels))
    _legend(figure, [row for _, group in panels for row in group], style, lines=False)
    return save_figure(figure, path)


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other one beats in time without being less expressive, by expressivity."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (_point(row)[1], -_point(row)[0])):
        if not best or _point(row)[0] > _point(best[-1])[0]:
            best.append(row)
    return best


def _point(row: Row) -> tuple[float, float]:
    """Expressivity and time of a row that was measured."""
    assert row.expressivity is not None
    assert row.median_ms is not None
    return float(row.expressivity), row.median_ms


def _time(row: Row, milliseconds: float) -> float:
    return milliseconds


def _per_expressivity(row: Row, milliseconds: float) -> float:
    assert row.expressivity
    return milliseconds / row.expressivity


def _panels(rows: Sequence[Row]) -> list[tuple[Section, list[Row]]]:
    groups = sections(rows)
    return [(section, groups[section]) for section in main_sections(rows)]


def _front_panels(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """A middle and the highest degree; operators of even and of all couplings together."""
    task = next(task for task in WIDE_TASKS if any(row.task == task for row in rows))
    chosen = [section for section in main_sections(rows) if section.task == task]
    groups = sections(rows)
    for mode in MODES:
        some = [row for s in chosen if s.mode == mode for row in groups[s]]
        degrees = sorted({row.degree for row in some})
        for degree in sorted({*degrees[(len(degrees) - 1) // 2 :][:1], *degrees[-1:]}):
            title = f"{TITLES[task]}, {MODES[mode]}, L = {degree}"
            yield title, [row for row in some if row.degree == degree]


def _draw_lines(
    ax: Axes, rows: Sequence[Row], style: Styles, quantity: Callable[[Row, float], float]
) -> None:
    from matplotlib.ticker import MaxNLocator

    for name in dict.fromkeys(row.operator for row in rows):
        own = sorted((row for row in rows if row.operator == name), key=lambda row: row.degree)
        colour, marker, line = style[name]
        middle, low, high = (
            [quantity(row, getattr(row, key)) for row in own]
            for key in ("median_ms", "q1_ms", "q3_ms")
        )
        spread = [
            [m - l for m, l in zip(middle, low, strict=True)],
            [h - m for h, m in zip(high, middle, strict=True)],
        ]
        ax.errorbar(
            [row.degree for row in own],
            middle,
            spread,
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=4.5,
            linewidth=1.2,
            elinewidth=0.8,
        )
    ax.set_yscale("log")
    _plain_numbers(ax.yaxis)
    ax.set_xlabel("degree L")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_ranking(
    ax: Axes, rows: Sequence[Row], style: Styles, quantity: Callable[[Row, float], float]
) -> None:
    """The fastest on top, with its time beside the point."""
    ordered = sorted(rows, key=lambda row: quantity(row, row.median_ms or 0.0), reverse=True)
    for height, row in enumerate(ordered):
        assert row.median_ms is not None
        colour, marker, _ = style[row.operator]
        middle, low, high = (
            quantity(row, time or row.median_ms) for time in (row.median_ms, row.q1_ms, row.q3_ms)
        )
        spread = [[middle - low], [high - middle]]
        face = colour if row.exact else "none"
        ax.errorbar(
            [middle], [height], None, spread, color=colour, marker=marker, markerfacecolor=face
        )
        ax.annotate(
            f"{middle:.3g}", (high, height), (6, 0), textcoords="offset points", fontsize=7,
            color=INK, va="center",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.margins(x=0.15)
    _plain_numbers(ax.xaxis)
    ax.set_yticks(range(len(ordered)), [row.operator for row in ordered], fontsize=7)
    ax.grid(False, axis="y")


def _draw_front(ax: Axes, rows: Sequence[Row], style: Styles) -> None:
    """Points, and steps through those of the front, which bear their names."""
    for row in rows:
        colour, marker, _ = style[row.operator]
        face = colour if row.exact else "none"
        ax.plot(*_point(row), marker, color=colour, markerfacecolor=face, markersize=7)
    front = pareto_front(rows)
    corners = [_point(row) for row in front]
    ax.step(*zip(*corners, strict=True), where="pre", color=MUTED, linewidth=1.0, zorder=0)
    for row in front:
        ax.annotate(
            row.operator, _point(row), (0, -9), textcoords="offset points", fontsize=7,
            color=INK, ha="center", va="top",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(x=0.2, y=0.15)
    found = sorted({_point(row)[0] for row in rows})
    ax.set_xticks(found, [f"{value:.0f}" for value in found])
    ax.set_xticks([], minor=True)
    _plain_numbers(ax.yaxis)
    ax.set_xlabel("expressivity")
    ax.set_ylabel("time (ms)")


def _plain_numbers(axis: Axis) -> None:
    """Ticks 1, 2, 5, 10 … of a logarithmic axis, written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _title(ax: Axes, section: Section, rows: Sequence[Row]) -> None:
    what, _, how = section.title.partition(": ")
    degrees = {row.degree for row in rows}
    if len(degrees) == 1 and section.task != "mace_convolution":
        what += f", L = {degrees.pop()}"
    _set_title(ax, what, how)


def _set_title(ax: Axes, *lines: str) -> None:
    """Lines above a panel, broken where they would be wider than it."""
    ax.set_title("\n".join(fill(line, TITLE_WIDTH) for line in lines), fontsize=8, color=INK)


def _grid(panels: int) -> tuple[float, int, int]:
    """Height, rows and columns of a figure with room for a legend below."""
    rows = -(-panels // COLUMNS)
    return 3.4 * rows + 1.0, rows, COLUMNS


def _legend(figure: Figure, rows: Sequence[Row], style: Styles, lines: bool = True) -> None:
    """The operators of these rows, below all panels."""
    from matplotlib.lines import Line2D

    present = {row.operator for row in rows}
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=line if lines else "", label=name)
        for name, (colour, marker, line) in style.items()
        if name in present
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False
        )
