"""Timing every tensor product in every comparison of a grid, to a table that can be continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from mlip.benchmark.compiling import Compiled, compile_program, without_stored_programs
from mlip.benchmark.grid import BASELINE, BenchmarkGrid, Cell
from mlip.benchmark.molecules import num_edges
from mlip.benchmark.programs import Program, build_program
from mlip.benchmark.records import SAME_PROGRAM, Records, Row
from mlip.benchmark.timing import Call, quartiles, time_in_turn
from mlip.errors import MlipError
from mlip.settings import Settings


class Progress(Protocol):
    """Is told how far the benchmark is."""

    def update(self, step: int, text: str) -> None:
        """The number of rows that are done or skipped, and what comes now."""


class Ready(NamedTuple):
    """A program that can be timed."""

    program: Program
    compiled: Compiled

    def prepare(self) -> Call:
        """The call to time, with arguments of its own."""
        return partial(self.compiled.program, *self.program.arguments())


def missing_rows(grid: BenchmarkGrid, records: Records) -> dict[Cell, dict[str, Settings]]:
    """The comparisons that lack an operator, each with all of its operators.

    Times of two sessions cannot be compared, so one that is incomplete is made anew.
    """
    found = {}
    for cell in grid.cells(num_edges()):
        candidates = grid.candidates(cell)
        if not all(records.has(name, cell) for name in candidates):
            found[cell] = candidates
    return found


def run_benchmark(
    grid: BenchmarkGrid,
    records: Records,
    missing: Mapping[Cell, Mapping[str, Settings]],
    progress: Progress,
) -> int:
    """Measure what is missing and add it to the table, one comparison after the other.

    Args:
        grid: how long to time and what to skip.
        records: the table.
        missing: from `missing_rows`.
        progress: is told what goes on.

    Returns:
        How many comparisons are left because the time of the grid is over.
    """
    end = time.monotonic() + 60 * (grid.max_minutes or inf)
    done = 0
    for number, (cell, operators) in enumerate(missing.items()):
        if time.monotonic() > end:
            return len(missing) - number
        tell = partial(progress.update, done)
        with jax.enable_x64(cell.precision == "float64"):
            records.add(compare(cell, operators, grid, tell))
        done += len(operators)
        progress.update(done, str(cell))
    return 0


def compare(
    cell: Cell,
    operators: Mapping[str, Settings],
    grid: BenchmarkGrid,
    tell: Callable[[str], None],
) -> list[Row]:
    """Time operators in turn.

    Args:
        cell: what is compared.
        operators: to time, by their labels; the dense Clebsch–Gordan product among them, to
            which the ratios are.
        grid: how long to time and what to skip.
        tell: receives one line on what goes on.

    Returns:
        One row for each of the operators. Those that are unfit, or the program of an earlier one,
        are not timed.
    """
    ready: dict[str, Ready] = {}
    reasons: dict[str, str] = {}
    for name, settings in operators.items():
        tell(f"{cell}: {name}")
        try:
            with without_stored_programs():
                found = prepare(settings, cell, grid)
            _check_new(found, ready)
            ready[name] = found
        except MlipError as error:
            reasons[name] = str(error)
    tell(f"{cell}: timing")
    times = time_in_turn([one.prepare for one in ready.values()], grid.runs, grid.seconds)
    seconds = dict(zip(ready, times, strict=True))
    rows = []
    for name in operators:
        if name in ready:
            rows.append(_row(name, cell, ready[name], seconds[name], seconds.get(BASELINE)))
        else:
            rows.append(Row(name, *cell, skipped=reasons[name]))
    return rows


def prepare(settings: Settings, cell: Cell, grid: BenchmarkGrid) -> Ready:
    """Build and compile the program of one operator.

    Raises:
        MlipError: saying why it is not to be timed.
    """
    program = build_program(settings, cell)
    multiplies = (program.multiplies or 0) * cell.batch * cell.channels
    if multiplies > grid.max_multiplies:
        raise MlipError(f"{multiplies:.1e} multiplications, more than {grid.max_multiplies:.1e}")
    compiled = compile_program(program.function, *program.shapes)
    if compiled.memory > 1e9 * grid.memory_gb:
        raise MlipError(f"{compiled.memory / 1e9:.1f} GB, more than {grid.memory_gb:g} GB")
    return Ready(program, compiled)


def _check_new(one: Ready, others: Mapping[str, Ready]) -> None:
    """Raise for a program that is there already: a variant, say, whose option has no effect."""
    for name, other in others.items():
        if one.compiled.digest == other.compiled.digest:
            raise MlipError(f"{SAME_PROGRAM}{name}")


def _row(
    name: str, cell: Cell, ready: Ready, seconds: np.ndarray, baseline: np.ndarray | None
) -> Row:
    times = quartiles(seconds)
    program, compiled = ready
    values: dict[str, Any] = {}
    if baseline is not None:
        ratios = np.median(seconds, axis=1) / np.median(baseline, axis=1)
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
        values = {"ratio": median, "ratio_q1": low, "ratio_q3": high}
    return Row(
        name,
        *cell,
        median_ms=times.median,
        q1_ms=times.spread[0],
        q3_ms=times.spread[1],
        runs=seconds.size,
        compile_s=compiled.seconds,
        flops=compiled.flops,
        traffic_bytes=compiled.traffic,
        memory_bytes=compiled.memory,
        multiplies=program.multiplies,
        output_size=program.output_size,
        expressivity=program.expressivity(),
        weights=program.weights,
        exact=int(program.exact),
        **values,
    )
