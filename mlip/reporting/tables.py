"""The error table, once: its columns are the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

NOT_KNOWN = "–"


class Column(NamedTuple):
    """One column of the error table.

    Attributes:
        key: its key in `evaluation.json`.
        title: what it holds.
        unit: unit of the numbers, empty for counts.
    """

    key: str
    title: str
    unit: str


COLUMNS = (
    Column("num_structures", "structures", ""),
    Column("num_atoms", "atoms", ""),
    Column("skipped_records", "left out", ""),
    Column("energy_mae_mev_per_atom", "energy MAE", "meV/atom"),
    Column("energy_rmse_mev_per_atom", "energy RMSE", "meV/atom"),
    Column("energy_rmse_mev", "total energy RMSE", "meV"),
    Column("forces_mae_mev_per_a", "force MAE", "meV/Å"),
    Column("forces_rmse_mev_per_a", "force RMSE", "meV/Å"),
    Column("stress_mae_mev_per_a3", "stress MAE", "meV/Å³"),
    Column("stress_rmse_mev_per_a3", "stress RMSE", "meV/Å³"),
)


def format_number(value: Any) -> str:
    """A count in full, another number to three figures, a dash for what is not known."""
    if value is None or value != value:
        return NOT_KNOWN
    if isinstance(value, Integral):
        return f"{value:,}".replace(",", "\u202f")
    magnitude = abs(value)
    if magnitude == 0:
        return "0"
    if magnitude >= 1e5 or magnitude < 1e-3:
        return f"{value:.2e}"
    decimals = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 else 3
    return f"{value:.{decimals}f}"


def error_columns(evaluation: Mapping[str, Mapping[str, Any]]) -> list[Column]:
    """The columns for which at least one subset has a value."""
    return [
        column
        for column in COLUMNS
        if any(errors.get(column.key) is not None for errors in evaluation.values())
    ]


def print_error_table(
    evaluation: Mapping[str, Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print the errors of every subset, with units.

    Args:
        evaluation: content of `evaluation.json`, see `mlip.reporting.run_folder`.
        console: where to print; standard output when left out.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console as RichConsole
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("subset", overflow="fold", min_width=8)
    columns = error_columns(evaluation)
    for column in columns:
        # One word a line keeps the table within eighty characters.
        title = "\n".join([*column.title.split(), column.unit])
        table.add_column(title, justify="right", no_wrap=True, vertical="bottom")
    for name, errors in evaluation.items():
        table.add_row(name, *(format_number(errors.get(column.key)) for column in columns))
    (console or RichConsole()).print(table)
