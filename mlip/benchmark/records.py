"""The table of results on disk: one row for each operator and comparison, kept as they come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from mlip.benchmark.grid import Cell
from mlip.errors import MlipError

TABLE, MACHINE = "results.csv", "machine.json"
SAME_PROGRAM = "the same program as "
IDENTITY = ("device", "processor", "cores", "threads", "caches", "versions")


class Row(NamedTuple):
    """One operator in one comparison; what was not measured is `None`.

    Attributes:
        operator: with the options that are not the default ones.
        task: as in `Cell`, like the six that follow.
        couplings: which couplings.
        degree: highest degree.
        batch: atoms or edges.
        channels: channels.
        precision: floating-point type.
        mode: forward or gradient.
        skipped: why it was not measured; empty if it was.
        median_ms: time of a call.
        q1_ms: first quartile.
        q3_ms: third quartile.
        runs: calls that the three are taken from.
        ratio: time over that of the dense Clebsch–Gordan product in the same turn, median.
        ratio_q1: first quartile.
        ratio_q3: third quartile.
        compile_s: tracing and compiling.
        flops: floating-point operations of a call, by the compiler's count.
        traffic_bytes: read and written in a call, by the compiler's count.
        memory_bytes: of arguments, results and temporary storage.
        multiplies: of the value, one atom or edge and channel, counted from the algorithm.
        output_size: numbers in the value for each atom and channel.
        expressivity: independent bilinear maps with free linear maps around the operator.
        weights: of each edge and channel.
        exact: whether the operator is equivariant to rounding.
    """

    operator: str
    task: str
    couplings: str
    degree: int
    batch: int
    channels: int
    precision: str
    mode: str
    skipped: str = ""
    median_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    runs: int | None = None
    ratio: float | None = None
    ratio_q1: float | None = None
    ratio_q3: float | None = None
    compile_s: float | None = None
    flops: float | None = None
    traffic_bytes: float | None = None
    memory_bytes: float | None = None
    multiplies: int | None = None
    output_size: int | None = None
    expressivity: int | None = None
    weights: int | None = None
    exact: int | None = None

    @property
    def cell(self) -> tuple:
        """The comparison that the row is a part of, as the fields of `Cell`."""
        return self[1 : 1 + len(Cell._fields)]

    @property
    def twin(self) -> str:
        """The operator whose program this one shares, and that is timed for both; or nothing."""
        name = self.skipped.removeprefix(SAME_PROGRAM)
        return name if name != self.skipped else ""


class Records:
    """The results in a folder, read when it is opened and added to as they come.

    Args:
        folder: holds `results.csv` and `machine.json`, or will hold them.
        machine: what times depend on.

    Raises:
        MlipError: if the results there are of another machine or version, or cannot be read.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]) -> None:
        self.path = folder / TABLE
        self.rows: list[Row] = []
        if self.path.exists():
            self._check_machine(folder / MACHINE, machine)
            self._read()
        else:
            (folder / MACHINE).write_text(json.dumps(machine, indent=1) + "\n", encoding="utf-8")
            self._append([Row._fields])

    def has(self, operator: str, cell: Cell) -> bool:
        """Whether an operator has been measured, or skipped, in a comparison."""
        return any(row.operator == operator and row.cell == tuple(cell) for row in self.rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows, on disk at once; they replace those of the same operator and comparison."""
        new = list(rows)
        self.rows = _latest([*self.rows, *new])
        self._append([_texts(row) for row in new])

    def _append(self, lines: Iterable[Iterable[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def _check_machine(self, path: Path, machine: Mapping[str, Any]) -> None:
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MlipError(
                f"{self.path} lacks its {MACHINE}, so it is not known which machine the times are "
                "of: choose another folder with run.name=NAME, or remove this one."
            ) from error
        differing = [key for key in IDENTITY if there.get(key) != machine.get(key)]
        if differing:
            key = differing[0]
            raise MlipError(
                f"{self.path} was measured with {key} {_short(there.get(key), machine.get(key))}, "
                f"here it is {_short(machine.get(key), there.get(key))}; times of both cannot be "
                "compared: choose another folder with run.name=NAME, or remove this one."
            )

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # cut short while it was written
            text = text[: text.rfind("\n") + 1]
            self.path.write_text(text, encoding="utf-8")
        header, *lines = list(csv.reader(io.StringIO(text))) or [[]]
        try:
            if tuple(header) != Row._fields:
                raise ValueError
            self.rows = _latest(_row(line) for line in lines)
        except ValueError as error:
            raise MlipError(
                f"{self.path} is not a table of this version of the benchmark: choose another "
                "folder with run.name=NAME, or remove this one."
            ) from error


def _latest(rows: Iterable[Row]) -> list[Row]:
    return list({(row.operator, row.cell): row for row in rows}.values())


def _texts(row: Row) -> list[str]:
    return [
        "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        for value in row
    ]


def _row(line: list[str]) -> Row:
    values = [
        None if text == "" and kind is not str else kind(text)
        for text, kind in zip(line, _KINDS, strict=True)
    ]
    return Row._make(values)


_KINDS = [
    next((kind for kind in get_args(hint) if kind is not type(None)), hint)
    for hint in get_type_hints(Row).values()
]


def _short(value: Any, other: Any) -> str:
    """A value in a sentence; of two tables, the entries that differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(
            f"{key} {entry}" for key, entry in value.items() if other.get(key) != entry
        )
    return str(value)
