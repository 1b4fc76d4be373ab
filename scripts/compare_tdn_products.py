"""Time TDN with its tensor product exchanged: decomposed, one coupling after the other, or fused.

The publication of tensor decomposition networks compares the decomposed product (CP) with one that
forms every coupling by itself. Here stands beside both the product that `cp` approximates, formed
at once with the constants of all couplings added up (`path_shared`): the exact control.

Five made-up molecules of 27 atoms with 2336 edges, single precision, the rest of the network the
same; the energy, energy and forces, and the loss with its derivatives by all weights, as a training
step needs them.
All products are timed in turn, A B C A B C …, so that a busy machine slows all alike.

    python scripts/compare_tdn_products.py
    python scripts/compare_tdn_products.py --degrees 1 --channels 256 --layers 6
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip import runtime
from mlip.benchmark.compiling import compile_program, without_stored_programs
from mlip.benchmark.grid import label
from mlip.benchmark.machine import describe_machine
from mlip.benchmark.molecules import ATOMS, CUTOFF, MOLECULES, molecules, num_edges
from mlip.benchmark.timing import Call, quartiles, time_in_turn
from mlip.graph import Graph, Labels
from mlip.models import build_model
from mlip.models.tdn import TDNConfig
from mlip.potential import evaluate
from mlip.tensor_products.clebsch_gordan import (
    ClebschGordanDenseSettings,
    ClebschGordanSparseSettings,
)
from mlip.tensor_products.cp import CPSettings
from mlip.tensor_products.path_shared import PathSharedSettings
from mlip.tensor_products.registry import TensorProductSettings
from mlip.training.loss import LossSettings
from mlip.training.state import SplitModel
from mlip.training.step import loss_and_gradient

ROOT = Path(__file__).resolve().parent.parent
PRODUCTS: list[TensorProductSettings] = [
    CPSettings(),
    CPSettings(rank="paper", paths="all"),
    ClebschGordanDenseSettings(),
    ClebschGordanSparseSettings(),
    PathSharedSettings(),
]
MODES = {
    "energy": "energy",
    "forces": "energy and forces",
    "training": "loss and its derivatives by the weights",
}
CARBON = 6


class Program(NamedTuple):
    """A compiled program with its arguments.

    Attributes:
        parameters: of the model.
        compile_s: tracing and compiling, s.
        prepare: what `time_in_turn` wants.
    """

    parameters: int
    compile_s: float
    prepare: Callable[[], Call]


class Result(NamedTuple):
    """One product at one degree.

    Attributes:
        mode: what is computed.
        degree: highest degree L.
        product: the operator with its options.
        parameters: of the model.
        compile_s: tracing and compiling, s.
        median_ms: of all calls.
        ratio: its time over that of `cp` within a turn, median.
    """

    mode: str
    degree: int
    product: str
    parameters: int
    compile_s: float
    median_ms: float
    ratio: float


def labels_of(graph: Graph) -> Labels:
    """Labels of zero: what a step costs does not depend on them."""
    num_graphs, num_nodes, dtype = graph.num_graphs, graph.num_nodes, graph.positions.dtype
    return Labels(
        energy=np.zeros(num_graphs, dtype),
        forces=np.zeros((num_nodes, 3), dtype),
        stress=np.zeros((num_graphs, 3, 3), dtype),
        energy_weight=np.ones(num_graphs, dtype),
        forces_weight=np.ones(num_nodes, dtype),
        stress_weight=np.zeros(num_graphs, dtype),
    )


def compiled(
    operator: TensorProductSettings, mode: str, degree: int, arguments: argparse.Namespace
) -> Program:
    """The program of a model with this product."""
    config = TDNConfig(
        elements=(CARBON,),
        cutoff=CUTOFF,
        lmax=degree,
        channels=arguments.channels,
        num_layers=arguments.layers,
        convolution=operator,
        avg_num_neighbors=num_edges() / (ATOMS * MOLECULES),
    )
    split = SplitModel(build_model(config, rngs=nnx.Rngs(0), dtype=jnp.dtype("float32")))
    settings = LossSettings()
    weights = settings.weights._replace(stress=None)

    def function(params: Any, constants: Any, graph: Graph, labels: Labels) -> Any:
        if mode == "training":
            return loss_and_gradient(split, params, constants, graph, labels, settings, weights)
        output = evaluate(split.merge(params, constants), graph)
        return output.energy if mode == "energy" else (output.energy, output.forces)

    graph = jax.tree.map(jnp.asarray, molecules("float32"))
    values = (split.params, split.constants, graph, jax.tree.map(jnp.asarray, labels_of(graph)))
    with without_stored_programs():
        program = compile_program(function, *values)
    count = sum(leaf.size for leaf in split.params.values())
    return Program(count, program.seconds, lambda: partial(program.program, *values))


def compare(mode: str, degree: int, arguments: argparse.Namespace) -> list[Result]:
    """Time all products; the first is `cp`, to which the ratios are."""
    programs = {label(one): compiled(one, mode, degree, arguments) for one in PRODUCTS}
    prepared = [program.prepare for program in programs.values()]
    times = time_in_turn(prepared, arguments.runs, arguments.seconds)
    turns = [np.median(one, axis=1) for one in times]
    return [
        Result(
            mode,
            degree,
            name,
            program.parameters,
            program.compile_s,
            quartiles(one).median,
            float(np.median(turn / turns[0])),
        )
        for (name, program), one, turn in zip(programs.items(), times, turns, strict=True)
    ]


def table(results: Sequence[Result], degrees: Sequence[int]) -> str:
    """The results as Markdown: median in ms, and in brackets the ratio to the first."""
    lines = []
    for mode, title in MODES.items():
        some = {(one.product, one.degree): one for one in results if one.mode == mode}
        names = list(dict.fromkeys(name for name, _ in some))
        header = " | ".join(f"L = {degree}" for degree in degrees)
        lines += [title, "", f"| product | {header} |", "|---" * (len(degrees) + 1) + "|"]
        for name in names:
            cells = [_cell(some, name, degree) for degree in degrees]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(results: Mapping[tuple[str, int], Result], name: str, degree: int) -> str:
    one = results.get((name, degree))
    return "–" if one is None else f"{one.median_ms:.1f} ({one.ratio:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--degrees", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=30, help="timed calls of each program")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for them")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "tdn_products")
    arguments = parser.parse_args()
    runtime.prepare()
    print(runtime.summary(), flush=True)
    results: list[Result] = []
    for degree in arguments.degrees:
        for mode in MODES:
            results += compare(mode, degree, arguments)
            last = results[-len(PRODUCTS) :]
            told = ", ".join(f"{one.product} {one.median_ms:.1f} ms" for one in last)
            print(f"{MODES[mode]}, L = {degree}: {told}", flush=True)
    content = {
        "about": {**describe_machine(), "jax": jax.__version__},
        "channels": arguments.channels,
        "layers": arguments.layers,
        "results": [one._asdict() for one in results],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tdn_products.json").write_text(json.dumps(content, indent=1) + "\n")
    (arguments.out / "tdn_products.md").write_text(table(results, arguments.degrees))
    print(table(results, arguments.degrees))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
