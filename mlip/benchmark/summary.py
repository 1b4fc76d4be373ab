"""The results as tables for a page: one row for each operator, one column for each degree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any, NamedTuple

from mlip.benchmark.grid import BASELINE, CONVOLUTIONS, Task
from mlip.benchmark.records import Row
from mlip.tensor_products.protocol import NEIGHBORS

TITLES: dict[Task, str] = {
    "one_to_one": "one degree to one degree",
    "one_to_all": "one degree to all degrees up to 2L",
    "all_to_all": "all degrees to all degrees up to 2L",
    "all_to_lmax": "all degrees to all degrees up to L",
    "convolution": "convolution, all degrees up to L",
    "mace_convolution": "convolution of MACE, degrees 1 and 3 to 3",
}
COSTS = f"""Operations are for one atom (or edge) and channel: floating-point ones as the compiler
counts them, the body of a loop once, and multiplications counted from the algorithm. In a
convolution the latter leave out what all channels of an edge share, and what is done once for an
atom is divided by {NEIGHBORS}, as among so many neighbours. Traffic is what a call reads and
writes, by the compiler's count; memory holds arguments, results and temporary arrays.
"""
EXPRESSIVITY = """*Expressivity*: the number of independent bilinear maps that an operator reaches
when free linear maps per degree stand before and after it.
"""
MODES = {"forward": "value", "gradient": "value and derivatives"}


class Section(NamedTuple):
    """The comparisons that one table is made of.

    Attributes:
        task: what is multiplied.
        couplings: which couplings.
        batch: atoms or edges.
        channels: channels.
        precision: floating-point type.
        mode: forward or gradient.
    """

    task: str
    couplings: str
    batch: int
    channels: int
    precision: str
    mode: str

    @property
    def title(self) -> str:
        """In words."""
        couplings = {"even": ", even couplings", "all": ", all couplings", "own": ""}
        entries = "edges" if self.task in CONVOLUTIONS else "atoms"
        return (
            f"{TITLES[self.task]}{couplings[self.couplings]}: "  # type: ignore[index]
            f"{MODES[self.mode]}, {self.batch:,} {entries}, {self.channels} "
            f"channel{'s' * (self.channels > 1)}, {self.precision}"
        )


class SummaryTable(NamedTuple):
    """A table of texts.

    Attributes:
        title: what it holds.
        header: of each column.
        rows: one for each operator.
        notes: on what the table lacks, one sentence for each operator.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """As a section of a page."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        table = [f"| {' | '.join(line)} |" for line in lines]
        notes = ["", *(f"* {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"### {self.title}", "", *table, *notes, ""])


def sections(rows: Sequence[Row]) -> dict[Section, list[Row]]:
    """What was measured, by table, in the order of measurement."""
    found: dict[Section, list[Row]] = {}
    for row in rows:
        key = Section(row.task, row.couplings, row.batch, row.channels, row.precision, row.mode)
        found.setdefault(key, []).append(row)
    return {key: group for key, group in found.items() if any(not row.skipped for row in group)}


def main_sections(rows: Sequence[Row]) -> list[Section]:
    """One for each task, couplings and mode: the first precision, fewest channels, most atoms."""
    best: dict[tuple, Section] = {}
    for section in sections(rows):
        key = (section.task, section.couplings, section.mode)
        there = best.setdefault(key, section)
        if section.precision == there.precision and (-section.channels, section.batch) > (
            -there.channels,
            there.batch,
        ):
            best[key] = section
    return list(best.values())


def summary_table(section: Section, rows: Sequence[Row]) -> SummaryTable:
    """Times in ms, with the ratio to the dense Clebsch–Gordan product in brackets.

    An operator that is the program of another one refers to it; why others lack is in the notes.
    """
    degrees = sorted({row.degree for row in rows})
    names = dict.fromkeys(row.operator for row in rows if not row.skipped or row.twin)
    found = {(row.operator, row.degree): row for row in rows}
    header = ["ms (ratio)", *(f"L = {degree}" for degree in degrees)]
    body = [[f"`{name}`", *(_time(found.get((name, d))) for d in degrees)] for name in names]
    if section.task == "mace_convolution":
        header = ["operator", "ms (ratio)", "weights", "numbers per atom and channel"]
        body = [
            [*cells, *(_count(n) for n in (one.weights, one.output_size))]
            for cells, one in zip(body, (found[name, degrees[0]] for name in names), strict=True)
        ]
    return SummaryTable(section.title, header, body, list(_reasons(rows)))


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """Why operators were not timed, at which degrees."""
    reasons: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row.skipped and not row.twin:
            reasons.setdefault(row.operator, {}).setdefault(row.skipped, []).append(row.degree)
    for name, found in reasons.items():
        parts = [
            f"at L = {', '.join(map(str, degrees))}: {reason.rstrip('.')}"
            for reason, degrees in found.items()
        ]
        yield f"`{name}` was not timed {'; '.join(parts)}."


def expressivity_table(rows: Sequence[Row]) -> Iterator[SummaryTable]:
    """The expressivity of every operator by degree, one table for each task and couplings."""
    groups: dict[tuple[str, str], dict[str, dict[int, int]]] = {}
    for row in rows:
        if row.expressivity is not None and row.task in ("all_to_all", "all_to_lmax"):
            group = groups.setdefault((row.task, row.couplings), {})
            group.setdefault(row.operator, {})[row.degree] = row.expressivity
    for (task, couplings), group in groups.items():
        degrees = sorted({degree for values in group.values() for degree in values})
        header = ["expressivity", *(f"L = {degree}" for degree in degrees)]
        body = [
            [f"`{name}`", *(str(values.get(degree, "–")) for degree in degrees)]
            for name, values in group.items()
        ]
        title = f"{TITLES[task]}, {couplings} couplings: expressivity"  # type: ignore[index]
        yield SummaryTable(title, header, body)


def cost_table(section: Section, rows: Sequence[Row]) -> SummaryTable:
    """The compiler's counts beside our own, at the last degree of the baseline."""
    measured = [row for row in rows if row.median_ms is not None]
    of_baseline = [row.degree for row in measured if row.operator == BASELINE]
    degree = max(of_baseline or [row.degree for row in measured])
    header = [
        "operator",
        "compile (s)",
        "operations, compiler",
        "multiplications, counted",
        "traffic (MB)",
        "memory (MB)",
    ]
    body = [
        [
            f"`{row.operator}`",
            f"{row.compile_s:.2f}",
            _per_entry(row.flops, row),
            "–" if row.multiplies is None else f"{row.multiplies:,}",
            _megabytes(row.traffic_bytes),
            _megabytes(row.memory_bytes),
        ]
        for row in measured
        if row.degree == degree
    ]
    return SummaryTable(f"{section.title}: cost of the program at L = {degree}", header, body)


def _count(number: int | None) -> str:
    return "–" if number is None else str(number)


def _per_entry(number: float | None, row: Row) -> str:
    return "–" if number is None else f"{number / row.batch / row.channels:,.0f}"


def _megabytes(number: float | None) -> str:
    return "–" if number is None else f"{number / 1e6:.3g}"


def write_summary(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    """The page `summary.md`: every table, and the machine."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    parts = [
        f"# Tensor products on {machine['processor']}, {machine['threads']} threads",
        "",
        f"Caches {caches or 'unknown'}; jax {machine['versions']['jax']}. Medians of the calls; in "
        "brackets the time over that of the dense Clebsch–Gordan product in the same turn.",
        "",
    ]
    parts += [summary_table(section, group).markdown() for section, group in sections(rows).items()]
    expressivities = [table.markdown() for table in expressivity_table(rows)]
    parts += [EXPRESSIVITY, *expressivities] if expressivities else []
    groups = sections(rows)
    parts += [
        cost_table(section, groups[section]).markdown()
        for section in main_sections(rows)
        if section.mode == "forward"
    ]
    parts.append(COSTS)
    return "\n".join(parts)


def _time(row: Row | None) -> str:
    if row is not None and row.twin:
        return f"= `{row.twin}`"
    if row is None or row.median_ms is None:
        return "–"
    digits = 0 if row.median_ms >= 100 else 1 if row.median_ms >= 10 else 2
    time = f"{row.median_ms:.{digits}f}" if row.median_ms >= 0.1 else f"{row.median_ms:.3f}"
    return time if row.ratio is None else f"{time} ({two_digits(row.ratio)})"


def two_digits(value: float) -> str:
    """A positive number with two significant digits, never in powers of ten: 0.050, 1.0, 12."""
    rounded = float(f"{value:.1e}")
    return f"{rounded:.{max(1 - floor(log10(rounded)), 0)}f}"
