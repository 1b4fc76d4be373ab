"""Colours, markers and lines of the operators in figures, the same in every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mlip.reporting.style import MARKERS, series_styles
from mlip.tensor_products.registry import OPERATORS

OF_VARIANTS = 2  # markers between those of an operator and of its first variant


class Style(NamedTuple):
    """How an operator is drawn."""

    colour: str
    marker: str
    line: str


def operator_styles(labels: Iterable[str]) -> dict[str, Style]:
    """The style of each operator, in the order of the registry.

    The colour follows from the name and its place in the registry. Other options of an operator,
    as in `cp(rank=paper)`, have its colour and further markers.

    Args:
        labels: as from `grid.label`.
    """
    by_name: dict[str, list[str]] = {name: [] for name in OPERATORS}
    for label in sorted(set(labels)):
        by_name.setdefault(label.partition("(")[0], []).append(label)
    found: dict[str, Style] = {}
    for (name, group), style in zip(by_name.items(), series_styles(len(by_name)), strict=True):
        colour, marker, line = style
        if name in group:
            found[name] = Style(colour, marker, line)
        for number, label in enumerate([one for one in group if one != name], start=1):
            place = MARKERS.index(marker) + OF_VARIANTS + number
            found[label] = Style(colour, MARKERS[place % len(MARKERS)], line)
    return found
