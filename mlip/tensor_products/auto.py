"""Choosing among operators that compute the same: the fastest one here, timed once.

Operators of one family (`registry.Operator.family`) reach the same bilinear maps with the same
weights around them, so that choosing between them changes the time of a step and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip import runtime
from mlip.errors import MlipError
from mlip.graph import Graph, bare_graph
from mlip.nn.irreps import dim
from mlip.settings import Settings
from mlip.tensor_products.build import build_convolution, build_power, family_members
from mlip.tensor_products.edgewise import each_edge
from mlip.tensor_products.protocol import Convolution
from mlip.tensor_products.registry import Operator

ROUNDS = 15  # timed calls of each candidate, in turn
WARM_UP = 2


class GraphSize(NamedTuple):
    """Static sizes of the graphs that a model will see.

    Attributes:
        nodes: atoms, padding included.
        blocks: blocks of edges.
        width: edges of a block.
    """

    nodes: int
    blocks: int
    width: int


class ConvolutionShape(NamedTuple):
    """Static sizes of one convolution.

    Attributes:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.
        channels: channels of the features.
        call: how the model uses it: with features of the `atoms`; with features that lie on the
            `edges`, summed (`Convolution.on_edges`); or with these for `single_edges`
            (`edgewise.each_edge`).
    """

    input_lmax: int
    harmonics_lmax: int
    output_lmax: int
    channels: int
    call: Literal["atoms", "edges", "single_edges"] = "atoms"


class PowerShape(NamedTuple):
    """Static sizes of one many-body product.

    Attributes:
        lmax: highest degree of the feature.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors.
        num_elements: number of elements.
        channels: channels.
    """

    lmax: int
    hidden_lmax: int
    correlation: int
    num_elements: int
    channels: int


class Program(NamedTuple):
    """What is timed, before it is compiled, and its arguments."""

    lowered: jax.stages.Lowered
    arguments: tuple[Any, ...]


class Choice(NamedTuple):
    """The outcome of a comparison.

    Attributes:
        settings: of the fastest operator.
        milliseconds: median time of value and gradient of each candidate, by name, the same for
            those that are one program here; empty where there was one candidate only.
        family: what they have in common.
        remembered: whether the times were read from the disk.
        left_out: candidates that cannot give the degrees.
    """

    settings: Settings
    milliseconds: Mapping[str, float]
    family: str
    remembered: bool
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.settings.name  # type: ignore[attr-defined]
        if not self.milliseconds:
            return f"{name}, the only operator of family {self.family}"
        names: dict[float, list[str]] = {}
        for operator, value in sorted(self.milliseconds.items(), key=lambda item: item[1]):
            names.setdefault(value, []).append(operator)
        times = ", ".join(f"{' = '.join(same)} {value:.2f} ms" for value, same in names.items())
        source = "as measured before" if self.remembered else "measured now"
        text = f"{name}, the fastest of family {self.family} ({times}; {source})"
        if not self.left_out:
            return text
        return f"{text}, without {' and '.join(self.left_out)}, which cannot give the degrees"


def choose_convolution(
    family: str, shapes: Sequence[ConvolutionShape], size: GraphSize, dtype: str
) -> Choice:
    """The fastest convolution of a family.

    Args:
        family: what the operator must compute.
        shapes: of the convolutions of a model; times add up.
        size: of the graphs.
        dtype: "float32" or "float64".

    Raises:
        MlipError: for a family that has no convolution.
    """

    def program(operator: Settings) -> Program:
        built = [build_convolution(operator, *shape[:3]) for shape in shapes]
        graph = _graph(size)

        def energy(
            features: list[jax.Array], harmonics: jax.Array, weights: list[jax.Array]
        ) -> jax.Array:
            total = jnp.zeros((), harmonics.dtype)
            for convolution, shape, x, w in zip(built, shapes, features, weights, strict=True):
                y = [harmonics[..., i] for i in range(dim(convolution.harmonics_lmax))]
                parts = _messages(convolution, shape, x, y, w, graph)
                total += sum(jnp.sum(part * part) for part in parts)
            return total

        features = [
            _random((size.nodes, dim(shape.input_lmax), shape.channels), dtype) for shape in shapes
        ]
        highest = max(shape.harmonics_lmax for shape in shapes)
        harmonics = _random((size.blocks, size.width, dim(highest)), dtype)
        weights = [
            _random((size.blocks, size.width, one.num_weights * shape.channels), dtype)
            for one, shape in zip(built, shapes, strict=True)
        ]
        return _lowered(jax.grad(energy, argnums=(0, 1, 2)), features, harmonics, weights)

    members = family_members(family, "convolution")
    key = ["convolution with weights", [list(shape) for shape in shapes], list(size), dtype]
    return _choose(family, members, key, program)


def _messages(
    convolution: Convolution,
    shape: ConvolutionShape,
    features: jax.Array,
    harmonics: Sequence[jax.Array],
    weights: jax.Array,
    graph: Graph,
) -> list[jax.Array]:
    """The convolution as the model calls it."""
    if shape.call == "atoms":
        return convolution(features, harmonics, weights, graph)
    features = features[graph.senders]
    if shape.call == "edges":
        return convolution.on_edges(features, harmonics, weights)
    return each_edge(convolution, features, harmonics, weights)


def choose_power(family: str, shapes: Sequence[PowerShape], size: GraphSize, dtype: str) -> Choice:
    """The fastest many-body product of a family.

    Args:
        family: what the operator must compute.
        shapes: of the many-body products of a model; times add up.
        size: of the graphs.
        dtype: "float32" or "float64".

    Raises:
        MlipError: for a family that has no many-body product.
    """

    def program(operator: Settings) -> Program:
        layers = [
            build_power(operator, *shape, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype))
            for shape in shapes
        ]
        graphdef, state = nnx.split(nnx.List(layers))

        def energy(state: nnx.State, features: list[jax.Array]) -> jax.Array:
            total = jnp.zeros((), features[0].dtype)
            merged = nnx.merge(graphdef, state)
            for shape, layer, x in zip(shapes, merged, features, strict=True):
                result = layer(x, jnp.arange(size.nodes) % shape.num_elements)
                total += jnp.sum(result * result)
            return total

        features = [
            _random((size.nodes, dim(shape.lmax), shape.channels), dtype) for shape in shapes
        ]
        return _lowered(jax.grad(energy, argnums=(0, 1)), state, features)

    members = family_members(family, "product")
    key = ["product", [list(shape) for shape in shapes], list(size), dtype]
    return _choose(family, members, key, program)


def _choose(
    family: str,
    members: Sequence[Operator],
    key: list[Any],
    program: Callable[[Settings], Program],
) -> Choice:
    candidates = {member.name: member.settings() for member in members}
    if len(candidates) == 1:
        return Choice(next(iter(candidates.values())), {}, family, remembered=False)
    device = [jax.devices()[0].device_kind, runtime.num_threads()]
    memory = _Memory([family, sorted(candidates), key, _version(), jax.__version__, *device])
    times = memory.read()
    remembered = times is not None
    if times is None:
        times = _measure(candidates, program)
        memory.write(times)
    fastest = min(times, key=lambda name: times[name])
    left_out = tuple(sorted(candidates.keys() - times.keys()))
    return Choice(candidates[fastest], times, family, remembered, left_out)


def _measure(
    candidates: Mapping[str, Settings], program: Callable[[Settings], Program]
) -> dict[str, float]:
    """Times of those that can give the degrees; operators that are one program are timed once."""
    programs: dict[str, Program] = {}
    for name, settings in candidates.items():
        try:
            programs[name] = program(settings)
        except MlipError as error:
            reason = error
    if not programs:
        raise reason
    texts = {name: one.lowered.as_text() for name, one in programs.items()}
    first: dict[str, str] = {}
    for name, text in texts.items():
        first.setdefault(text, name)
    times = _time_in_turn({name: _compiled(programs[name]) for name in first.values()})
    return {name: times[first[text]] for name, text in texts.items()}


def _version() -> str:
    """Of this package: another one may compute the same otherwise."""
    try:
        return version("jax-mlip")
    except PackageNotFoundError:
        return "not installed"


def _time_in_turn(programs: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each program; in turn, so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(WARM_UP + ROUNDS):
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000.0 * float(np.median(values)) for name, values in seconds.items()}


def _lowered(function: Callable[..., Any], *arguments: Any) -> Program:
    return Program(jax.jit(function).lower(*arguments), arguments)


def _compiled(program: Program) -> Callable[[], Any]:
    compiled = program.lowered.compile()
    return lambda: compiled(*program.arguments)


def _random(shape: tuple[int, ...], dtype: str) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape, jnp.dtype(dtype))


def _graph(size: GraphSize) -> Graph:
    """A graph of the given size in which every atom receives about as many blocks."""
    nodes, blocks, width = size
    receivers = np.sort(np.arange(blocks) % nodes)
    senders = np.random.default_rng(0).integers(nodes, size=(blocks, width))
    return bare_graph(receivers, senders, nodes)


class _Memory:
    """Times kept on disk beside the compiled programs, one file for each comparison."""

    def __init__(self, key: list[Any]) -> None:
        folder = runtime.compilation_cache_folder()
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        self.path: Path | None = folder / f"operators-{digest}.json" if folder else None

    def read(self) -> dict[str, float] | None:
        """The times, or `None` where there are none that can be read."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            return {
                str(name): float(value) for name, value in json.loads(self.path.read_text()).items()
            }
        except (OSError, ValueError, AttributeError):  # cut short by a crash: measure again
            return None

    def write(self, times: Mapping[str, float]) -> None:
        """Keep the times, where the folder can be written; else they are measured again."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(dict(times)))
            partial.replace(self.path)
        except OSError:
            return
