"""Time tensor products of this project beside the same maps of e3nn-jax, in one process.

- The full product: degrees 0..L times degrees 0..L to degrees 0..2L, every even coupling kept
  apart, against `e3nn_jax.tensor_product`.
- The Gaunt product of the same degrees, against e3nn-jax's way over a grid on the sphere
  (`to_s2grid`, `from_s2grid`) with Gauss–Legendre quadrature on the smallest exact grid.

10,000 atoms, one channel, single precision, value alone and value with derivatives. Operators of
this project and the forms of e3nn-jax (results as one array or by degree; Fourier transforms fast
or as matrices) are timed in turn, A B C A B C …, so that a busy machine slows all alike. The
fastest of each side is compared, turn by turn. Before that the timed programs are checked to
compute the same map, up to a constant for each coupling.

    python scripts/compare_with_e3nn_jax.py
    python scripts/compare_with_e3nn_jax.py --kinds gaunt --degrees 5 6

Results are kept as they come; the same command goes on where it was stopped, by the time limit or
otherwise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np

from mlip import runtime
from mlip.benchmark.compiling import compile_program
from mlip.benchmark.machine import describe_machine
from mlip.benchmark.timing import Call, quartiles, time_in_turn
from mlip.nn.irreps import degree_slice, dim
from mlip.tensor_products.build import build_product
from mlip.tensor_products.registry import OPERATORS

ROOT = Path(__file__).resolve().parent.parent
# The operators that may be the fastest; others of these families never are.
OURS = {"clebsch_gordan": ["clebsch_gordan_sparse"], "gaunt": ["gaunt_quadrature", "gaunt_grid"]}
NATURAL = {"p_val": 1, "p_arg": -1}
MODES = {"forward": "value", "gradient": "value and derivatives"}
KINDS = {"clebsch_gordan": "full product", "gaunt": "Gaunt product"}
SAME = 1e-4  # of a component beside the largest, and of one minus a cosine

Function = Callable[[jax.Array, jax.Array], list[jax.Array]]
"""From two features (batch, (L+1)²) to arrays (batch, 2 l + 1, copies) of each degree l."""


class Result(NamedTuple):
    """One comparison.

    Attributes:
        kind: which product.
        mode: value alone, or with derivatives.
        degree: L.
        ours: our fastest operator.
        theirs: their fastest form.
        ours_ms: its median.
        theirs_ms: its median.
        ratio: time of theirs over ours within a turn: first quartile, median, third quartile.
        all_ms: medians of everything that was timed.
    """

    kind: str
    mode: str
    degree: int
    ours: str
    theirs: str
    ours_ms: float
    theirs_ms: float
    ratio: tuple[float, float, float]
    all_ms: dict[str, float]


def ours(family: str, lmax: int) -> dict[str, Function]:
    """The products of a family by name."""

    def evaluate(product: Any, x: jax.Array, y: jax.Array) -> list[jax.Array]:
        return product(x[..., None], y[..., None])

    degrees = (lmax, lmax, 2 * lmax)
    return {
        name: partial(evaluate, build_product(OPERATORS[name].settings(), *degrees))
        for name in OURS[family]
    }


def theirs(family: str, lmax: int) -> dict[str, Callable[..., Any]]:
    """The forms of e3nn-jax by name."""
    irreps, outputs = (e3nn_jax.s2_irreps(degree, **NATURAL) for degree in (lmax, 2 * lmax))

    def arrays(x: jax.Array, y: jax.Array) -> tuple[e3nn_jax.IrrepsArray, e3nn_jax.IrrepsArray]:
        return e3nn_jax.IrrepsArray(irreps, x), e3nn_jax.IrrepsArray(irreps, y)

    def full(x: jax.Array, y: jax.Array) -> e3nn_jax.IrrepsArray:
        kept = [irrep for _, irrep in outputs]
        return e3nn_jax.tensor_product(*arrays(x, y), filter_ir_out=kept)

    def grid(x: jax.Array, y: jax.Array, fft: bool) -> e3nn_jax.IrrepsArray:
        size = {"res_beta": 2 * lmax + 1, "res_alpha": 4 * lmax + 1}
        first, second = (
            e3nn_jax.to_s2grid(one, **size, quadrature="gausslegendre", fft=fft, **NATURAL)
            for one in arrays(x, y)
        )
        values = first.replace_values(first.grid_values * second.grid_values)
        return e3nn_jax.from_s2grid(values, outputs, fft=fft)

    if family == "clebsch_gordan":
        return {
            "tensor_product, array": lambda x, y: full(x, y).array,
            "tensor_product, by degree": lambda x, y: full(x, y).chunks,
        }
    return {
        "s2grid, matrices": lambda x, y: grid(x, y, fft=False).array,
        "s2grid, fft": lambda x, y: grid(x, y, fft=True).array,
    }


def check_same(programs: Mapping[str, Callable[..., Any]], own: int, lmax: int, batch: int) -> None:
    """Stop unless our programs and their first one agree for each pair of degrees.

    Args:
        programs: compiled, for values; `own` of ours before theirs.
        own: how many are ours.
        lmax: highest degree of both factors.
        batch: atoms that they were compiled for.
    """
    random = np.random.default_rng(0)
    pairs = [(l1, l2) for l1 in range(lmax + 1) for l2 in range(lmax + 1)]
    inputs = np.zeros((2, batch, dim(lmax)), np.float32)
    for row, degrees in enumerate(pairs):
        for factor, degree in zip(inputs, degrees, strict=True):
            factor[row, degree_slice(degree)] = random.normal(size=2 * degree + 1)
    names = list(programs)
    x, y = jnp.asarray(inputs)
    reference = by_degree(programs[names[own]](x, y), lmax)
    for name in names[:own]:
        for degree, (one, other) in enumerate(zip(programs[name](x, y), reference, strict=True)):
            for row, pair in enumerate(pairs):
                if not parallel(np.asarray(one[row]).sum(axis=-1), other[row], pair, degree):
                    raise SystemExit(f"{name} and e3nn-jax differ for {pair} to degree {degree}")


def by_degree(array: jax.Array, lmax: int) -> list[np.ndarray]:
    """Their result with the copies of each degree added up: for one pair of degrees one counts."""
    values = np.asarray(array)
    mults = [1] * (2 * lmax + 1)
    if values.shape[-1] != dim(2 * lmax):
        triples = [(a, b) for a in range(lmax + 1) for b in range(lmax + 1)]
        mults = [
            sum(abs(a - b) <= l <= a + b and (a + b + l) % 2 == 0 for a, b in triples)
            for l in range(2 * lmax + 1)
        ]
    sizes = np.cumsum([m * (2 * l + 1) for l, m in enumerate(mults)])[:-1]
    parts = np.split(values, sizes, axis=-1)
    return [part.reshape(len(part), m, -1).sum(1) for part, m in zip(parts, mults, strict=True)]


def parallel(one: np.ndarray, other: np.ndarray, pair: tuple[int, int], degree: int) -> bool:
    """Whether two vectors are multiples of each other, and zero where there is no coupling."""
    norms = np.linalg.norm(one), np.linalg.norm(other)
    coupled = abs(pair[0] - pair[1]) <= degree <= sum(pair) and (sum(pair) + degree) % 2 == 0
    if not coupled:
        return bool(max(norms) < SAME)
    return bool(abs(one @ other) > (1 - SAME) * norms[0] * norms[1] > 0)


def compiled(
    function: Callable[..., Any], mode: str, x: jax.Array, y: jax.Array
) -> tuple[Callable[..., Any], Callable[[], Call]]:
    """The program of one side, and what `time_in_turn` wants."""

    def gradient(x: jax.Array, y: jax.Array, cotangents: Any) -> Any:
        value, pull = jax.vjp(function, x, y)
        return value, pull(cotangents)

    if mode == "forward":
        program = compile_program(function, x, y).program
        return program, lambda: partial(program, x, y)
    shapes = jax.eval_shape(function, x, y)
    program = compile_program(gradient, x, y, shapes).program
    return program, lambda: partial(
        program, x, y, jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)
    )


def compare(family: str, mode: str, degree: int, arguments: argparse.Namespace) -> Result:
    """Check and time one kind, mode and degree."""
    random = np.random.default_rng(0).normal(size=(2, arguments.batch, dim(degree)))
    x, y = jnp.asarray(random, jnp.float32)
    own, other = ours(family, degree), theirs(family, degree)
    programs = {name: compiled(f, mode, x, y) for name, f in {**own, **other}.items()}
    if mode == "forward":
        runnable = {name: program for name, (program, _) in programs.items()}
        check_same(runnable, len(own), degree, arguments.batch)
    prepared = [prepare for _, prepare in programs.values()]
    times = time_in_turn(prepared, arguments.runs, arguments.seconds)
    return result(family, mode, degree, list(own), dict(zip(programs, times, strict=True)))


def result(
    family: str, mode: str, degree: int, own: list[str], times: dict[str, np.ndarray]
) -> Result:
    """The fastest of each side, turn by turn."""
    medians = {name: quartiles(one).median for name, one in times.items()}
    our, their = (
        min((name for name in times if (name in own) == is_own), key=medians.__getitem__)
        for is_own in (True, False)
    )
    ratios = np.median(times[their], axis=1) / np.median(times[our], axis=1)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    return Result(
        family, mode, degree, our, their, medians[our], medians[their], (low, middle, high), medians
    )


def table(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    lines = []
    for family, mode in product(KINDS, MODES):
        some = [one for one in results if (one.kind, one.mode) == (family, mode)]
        if some:
            lines += [
                f"{KINDS[family]}, {MODES[mode]}",
                "",
                "| L | ours (ms) | | e3nn-jax (ms) | | e3nn-jax / ours (quartiles) |",
                "|---|---|---|---|---|---|",
            ]
        for one in sorted(some, key=lambda one: one.degree):
            low, middle, high = one.ratio
            lines.append(
                f"| {one.degree} | {one.ours_ms:.2f} | {one.ours} | {one.theirs_ms:.2f} | "
                f"{one.theirs} | **{middle:.2f}** ({low:.2f} to {high:.2f}) |"
            )
        lines += [""] if some else []
    return "\n".join(lines)


class Record:
    """The results in a folder, kept as they come.

    Args:
        folder: for `e3nn_jax.json` and `e3nn_jax.md`.
        about: what times depend on.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.results: list[Result] = []
        path = folder / "e3nn_jax.json"
        if path.exists():
            content = json.loads(path.read_text())
            if content["about"] != about:
                raise SystemExit(f"{path} is of other versions or another machine: choose --out")
            self.results = [Result(**one) for one in content["results"]]

    def has(self, *key: Any) -> bool:
        """Whether a kind, mode and degree is there."""
        return any((one.kind, one.mode, one.degree) == key for one in self.results)

    def add(self, one: Result) -> None:
        """Keep a result, on disk at once."""
        self.results.append(one)
        content = {"about": self.about, "results": [one._asdict() for one in self.results]}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "e3nn_jax.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.folder / "e3nn_jax.md").write_text(table(self.results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=60, help="timed calls of each program")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for them")
    parser.add_argument("--minutes", type=float, default=10.0, help="begin nothing after that")
    parser.add_argument("--threads", type=int, help="CPU threads; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "e3nn_jax")
    arguments = parser.parse_args()
    if arguments.batch < (max(arguments.degrees) + 1) ** 2:
        parser.error("the check needs a --batch of (L + 1)² or more")
    end = time.monotonic() + 60 * arguments.minutes
    runtime.prepare(threads=arguments.threads)
    print(runtime.summary(), flush=True)
    versions = {"jax": jax.__version__, "e3nn-jax": e3nn_jax.__version__}
    record = Record(arguments.out, {**describe_machine(), **versions, "atoms": arguments.batch})
    wanted = list(product(arguments.kinds, arguments.degrees, MODES))
    for family, degree, mode in wanted:
        if record.has(family, mode, degree):
            continue
        if time.monotonic() > end:
            print("the time is over; the same command goes on")
            break
        one = compare(family, mode, degree, arguments)
        record.add(one)
        print(
            f"{KINDS[family]}, {MODES[mode]}, L = {degree}: "
            f"{one.theirs_ms:.2f} ms / {one.ours_ms:.2f} ms = {one.ratio[1]:.2f}",
            flush=True,
        )
    print()
    print(table(record.results))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
