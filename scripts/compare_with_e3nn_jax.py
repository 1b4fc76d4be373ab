"""Time tensor products of this project beside the same maps of e3nn-jax, in one process.

- The full product: degrees 0..L times degrees 0..L to degrees 0..2L, every even coupling kept
  apart, against `e3nn_jax.tensor_product`.
- The Gaunt product of the same degrees, against e3nn-jax's way over a grid on the sphere
  (`to_s2grid`, `from_s2grid`) with Gauss–Legendre quadrature on the smallest exact grid.

10,000 atoms, one channel, float32, value alone and value with derivatives. Every operator of the
family and every form of e3nn-jax (results as one array or by degree; Fourier transforms fast or as
matrices) is timed in turn, A B C A B C …, so that a busy machine slows all alike. The fastest of
each side is compared, turn by turn. Before that it is checked that both compute the same map, up to
a constant for each coupling.

    python scripts/compare_with_e3nn_jax.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
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
from mlip.tensor_products.registry import OPERATORS

ROOT = Path(__file__).resolve().parent.parent
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

    return {
        name: partial(evaluate, operator.product(operator.settings(), lmax, lmax, 2 * lmax))
        for name, operator in OPERATORS.items()
        if operator.family == family and operator.product is not None
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
            "tensor_product, one array": lambda x, y: full(x, y).array,
            "tensor_product, by degree": lambda x, y: full(x, y).chunks,
        }
    return {
        "s2grid, matrices": lambda x, y: grid(x, y, fft=False).array,
        "s2grid, fft": lambda x, y: grid(x, y, fft=True).array,
    }


def check_same(family: str, lmax: int) -> None:
    """Stop unless both sides give the same result for each pair of degrees, up to constants."""
    random = np.random.default_rng(0)
    pairs = [(l1, l2) for l1 in range(lmax + 1) for l2 in range(lmax + 1)]
    inputs = np.zeros((2, len(pairs), dim(lmax)), np.float32)
    for row, degrees in enumerate(pairs):
        for factor, degree in zip(inputs, degrees, strict=True):
            factor[row, degree_slice(degree)] = random.normal(size=2 * degree + 1)
    x, y = jnp.asarray(inputs)
    reference = by_degree(jax.jit(next(iter(theirs(family, lmax).values())))(x, y), lmax)
    for name, function in ours(family, lmax).items():
        for degree, (one, other) in enumerate(zip(jax.jit(function)(x, y), reference, strict=True)):
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
        return max(norms) < SAME
    return abs(one @ other) > (1 - SAME) * norms[0] * norms[1] > 0


def prepare(
    function: Callable[..., Any], mode: str, x: jax.Array, y: jax.Array
) -> Callable[[], Call]:
    """Compile one side; gives what `time_in_turn` wants."""

    def gradient(x: jax.Array, y: jax.Array, cotangents: Any) -> Any:
        value, pull = jax.vjp(function, x, y)
        return value, pull(cotangents)

    shapes = jax.eval_shape(function, x, y)
    if mode == "forward":
        program = compile_program(function, x, y).program
        return lambda: partial(program, x, y)
    program = compile_program(gradient, x, y, shapes).program
    return lambda: partial(
        program, x, y, jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)
    )


def compare(arguments: argparse.Namespace) -> Iterator[Result]:
    """Time every kind, mode and degree."""
    for family, degree in [(f, d) for f in KINDS for d in arguments.degrees]:
        check_same(family, degree)
        random = np.random.default_rng(0).normal(size=(2, arguments.batch, dim(degree)))
        x, y = jnp.asarray(random, jnp.float32)
        own, other = ours(family, degree), theirs(family, degree)
        for mode in MODES:
            programs = [prepare(f, mode, x, y) for f in [*own.values(), *other.values()]]
            times = time_in_turn(programs, arguments.runs, arguments.seconds)
            by_name = dict(zip([*own, *other], times, strict=True))
            yield result(family, mode, degree, list(own), by_name)


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


def table(results: list[Result]) -> str:
    """The results as Markdown."""
    lines = []
    for family, title in KINDS.items():
        for mode, meaning in MODES.items():
            lines += [
                f"{title}, {meaning}",
                "",
                "| L | ours (ms) | | e3nn-jax (ms) | | e3nn-jax / ours (quartiles) |",
                "|---|---|---|---|---|---|",
            ]
            for one in results:
                if (one.kind, one.mode) == (family, mode):
                    low, middle, high = one.ratio
                    lines.append(
                        f"| {one.degree} | {one.ours_ms:.2f} | {one.ours} | {one.theirs_ms:.2f} | "
                        f"{one.theirs} | **{middle:.2f}** ({low:.2f} to {high:.2f}) |"
                    )
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=60, help="timed calls of each program")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for them")
    parser.add_argument("--threads", type=int, help="CPU threads; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "e3nn_jax")
    arguments = parser.parse_args()
    runtime.prepare(threads=arguments.threads)
    print(runtime.summary(), flush=True)
    results = []
    for one in compare(arguments):
        results.append(one)
        print(
            f"{KINDS[one.kind]}, {MODES[one.mode]}, L = {one.degree}: "
            f"{one.theirs_ms:.2f} ms / {one.ours_ms:.2f} ms = {one.ratio[1]:.2f}",
            flush=True,
        )
    about = {**describe_machine(), "jax": jax.__version__, "e3nn-jax": e3nn_jax.__version__}
    content = {"about": about, "results": [one._asdict() for one in results]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "e3nn_jax.json").write_text(json.dumps(content, indent=1) + "\n")
    (arguments.out / "e3nn_jax.md").write_text(table(results))
    print()
    print(table(results))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
