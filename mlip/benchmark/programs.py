"""The programs that are timed: an operator in a role, with inputs of given sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlip.benchmark.grid import CONVOLUTIONS, MACE_DEGREES, ONE_DEGREE, Cell
from mlip.benchmark.molecules import edge_harmonics, molecules
from mlip.errors import MlipError
from mlip.graph import Graph
from mlip.runtime import Precision
from mlip.settings import Settings
from mlip.tensor_products.build import build_convolution, build_product
from mlip.tensor_products.measures import UNOPTIMIZED, convolution_expressivity, expressivity
from mlip.tensor_products.protocol import NodeProduct, Paths

REACHED = 1e-4  # of the largest component: what is smaller is a coupling that is not formed


class Program(NamedTuple):
    """A function to time, of (inputs, graph, cotangents of its results).

    Attributes:
        function: what is compiled.
        inputs: the arrays that derivatives are taken by.
        graph: of a convolution.
        cotangents: shapes of the results in a gradient, nothing otherwise.
        output_size: numbers in the result for each atom and channel.
        multiplies: multiplications for one atom or edge and channel, counted from the algorithm;
            `None` where a part of the operator is used.
        weights: of each edge and channel in a convolution.
        expressivity: independent maps that linear maps around the operator reach; takes a while.
        exact: whether the operator is equivariant to rounding.
    """

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    graph: Graph | None
    cotangents: list[jax.ShapeDtypeStruct]
    output_size: int
    multiplies: int | None = None
    weights: int | None = None
    expressivity: Callable[[], int | None] = lambda: None
    exact: bool = True

    @property
    def shapes(self) -> tuple[Any, ...]:
        """What to compile for."""
        return self.inputs, self.graph, self.cotangents

    def arguments(self) -> tuple[Any, ...]:
        """What to call with; the cotangents, which can be larger than all else, are new."""
        cotangents = [jnp.ones(result.shape, result.dtype) for result in self.cotangents]
        return self.inputs, self.graph, cotangents


def build_program(settings: Settings, cell: Cell) -> Program:
    """The program of one operator in one comparison.

    Raises:
        MlipError: where the operator cannot do what is compared.
    """
    build = _convolution if cell.task in CONVOLUTIONS else _product
    return build(settings, cell)


def product_degrees(cell: Cell) -> tuple[int, int, int]:
    """Highest degrees of both factors and of the result of a product."""
    outputs = {
        "one_to_one": cell.degree + cell.degree % 2,
        "one_to_all": 2 * cell.degree,
        "all_to_all": 2 * cell.degree,
        "all_to_lmax": cell.degree,
    }
    return cell.degree, cell.degree, outputs[cell.task]


def path_sets(product: NodeProduct, cell: Cell) -> tuple[Paths, ...]:
    """The sets of couplings to ask a product for, one after the other.

    Raises:
        MlipError: where the product does not form them.
    """
    if cell.couplings == "all" and "mixed" in product.paths:
        return ("mixed",)
    sets: tuple[Paths, ...] = ("even", "odd") if cell.couplings == "all" else ("even",)
    missing = [paths for paths in sets if paths not in product.paths]
    if missing:
        formed = " and ".join(product.paths)
        raise MlipError(f"forms {formed} couplings, not {' and '.join(missing)} ones")
    return sets


def _product(settings: Settings, cell: Cell) -> Program:
    product = build_product(settings, *product_degrees(cell))
    sets = path_sets(product, cell)
    about: dict[str, Any] = {"exact": product.exact}
    if cell.task in ONE_DEGREE:
        places = _one_degree_places(settings, cell, sets)
        function = _one_degree(product, cell.degree, places)
        size = 2 * cell.degree + 1
        # Each degree of the result is one map: another copy would be a multiple of it.
        about["expressivity"] = lambda: len(places)
    else:
        function = _all_degrees(product, sets)
        size = (cell.degree + 1) ** 2
        about["multiplies"] = sum(product.multiplies(paths) for paths in sets)
        about["expressivity"] = partial(_expressivity, settings, product_degrees(cell), sets)
    shape = (cell.batch, size, cell.channels)
    return _program(function, _random_pair(shape, cell.precision), None, cell, **about)


@lru_cache(maxsize=1)  # shared by the operators of a comparison
def _random_pair(shape: tuple[int, ...], dtype: Precision) -> tuple[jax.Array, jax.Array]:
    x, y = np.random.default_rng(0).normal(size=(2, *shape))
    return jnp.asarray(x, dtype), jnp.asarray(y, dtype)


def _all_degrees(product: NodeProduct, sets: Sequence[Paths]) -> Callable[..., list[jax.Array]]:
    def function(x: jax.Array, y: jax.Array) -> list[jax.Array]:
        parts = [part for paths in sets for part in product(x, y, paths)]
        return [part for part in parts if part.size]

    return function


def _one_degree_places(
    settings: Settings, cell: Cell, sets: tuple[Paths, ...]
) -> list[tuple[Paths, int, int]]:
    """What to keep of the result of one degree times one degree, as from `_reached`."""
    degrees = product_degrees(cell)
    wanted = [degrees[-1]] if cell.task == "one_to_one" else range(degrees[-1] + 1)
    places = [place for place in _reached(settings, degrees, sets) if place[1] in wanted]
    if not places:
        raise MlipError("the coupling is not formed")
    return places


def _one_degree(
    product: NodeProduct, degree: int, places: Sequence[tuple[Paths, int, int]]
) -> Callable[..., list[jax.Array]]:
    """A product of one degree each.

    The operator is handed features that are zero in the other degrees, inside the program, and
    one copy of what can differ from zero is taken from its result: the compiler leaves out the
    rest as far as it can, which is everything where each coupling is computed by itself.
    """

    def embed(x: jax.Array) -> jax.Array:
        below = jnp.zeros((x.shape[0], degree**2, x.shape[2]), x.dtype)
        return jnp.concatenate([below, x], axis=1)

    def function(x: jax.Array, y: jax.Array) -> list[jax.Array]:
        sets = dict.fromkeys(paths for paths, _, _ in places)
        results = {paths: product(embed(x), embed(y), paths) for paths in sets}
        channels = x.shape[-1]
        return [
            results[paths][l][..., copy * channels : (copy + 1) * channels]
            for paths, l, copy in places
        ]

    return function


@cache
def _reached(
    settings: Settings, degrees: tuple[int, int, int], sets: tuple[Paths, ...]
) -> list[tuple[Paths, int, int]]:
    """Where the result is not always zero if only the highest degree of both inputs is there.

    Returns:
        couplings, degree and the first such copy: others are multiples of it.
    """
    product = build_product(settings, *degrees)
    random = np.random.default_rng(0)
    x = np.zeros((2, 2, (degrees[0] + 1) ** 2, 1), np.float32)
    x[:, :, degrees[0] ** 2 :] = random.normal(size=(2, 2, 2 * degrees[0] + 1, 1))

    def function(x: jax.Array, y: jax.Array) -> list[list[jax.Array]]:
        return [product(x, y, paths) for paths in sets]

    results = jax.jit(function, compiler_options=UNOPTIMIZED)(*jnp.asarray(x))
    sizes = {
        (paths, degree): np.max(np.abs(part), axis=(0, 1))
        for paths, parts in zip(sets, results, strict=True)
        for degree, part in enumerate(parts)
    }
    smallest = REACHED * max(float(np.max(size, initial=0.0)) for size in sizes.values())
    return [
        (*place, int(np.argmax(size > smallest)))
        for place, size in sizes.items()
        if np.any(size > smallest)
    ]


@cache
def _expressivity(
    settings: Settings, degrees: tuple[int, int, int], sets: tuple[Paths, ...] | None
) -> int | None:
    """Of a product, or without sets of couplings of a convolution.

    It is `None` where rounding or approximation leave it uncertain.
    """
    try:
        if sets is None:
            return convolution_expressivity(build_convolution(settings, *degrees))
        return expressivity(build_product(settings, *degrees), sets)
    except MlipError:
        return None


def _convolution(settings: Settings, cell: Cell) -> Program:
    degrees = MACE_DEGREES if cell.task == "mace_convolution" else (cell.degree,) * 3
    convolution = build_convolution(settings, *degrees)
    graph = jax.tree.map(jnp.asarray, molecules(cell.precision))
    random = np.random.default_rng(0)
    size = (graph.num_nodes, (degrees[0] + 1) ** 2, cell.channels)
    weights = random.normal(size=(*graph.senders.shape, convolution.num_weights * cell.channels))
    inputs = (
        jnp.asarray(random.normal(size=size), cell.precision),
        edge_harmonics(graph, degrees[1]),
        jnp.asarray(weights * np.asarray(graph.edge_mask)[..., None], cell.precision),
    )

    def value(
        features: jax.Array, harmonics: list[jax.Array], weights: jax.Array, graph: Graph
    ) -> list[jax.Array]:
        return [part for part in convolution(features, harmonics, weights, graph) if part.size]

    return _program(
        value,
        inputs,
        graph,
        cell,
        multiplies=convolution.multiplies,
        weights=convolution.num_weights,
        expressivity=partial(_expressivity, settings, degrees, None),
        exact=convolution.exact,
    )


def _program(
    value: Callable[..., list[jax.Array]],
    inputs: tuple[Any, ...],
    graph: Graph | None,
    cell: Cell,
    **about: Any,
) -> Program:
    """The value alone, or with the derivatives by the inputs."""
    constant = () if graph is None else (graph,)
    results = jax.eval_shape(value, *inputs, *constant)
    size = sum(int(np.prod(result.shape[1:])) for result in results) // cell.channels

    def forward(inputs: tuple, graph: Graph | None, cotangents: list) -> Any:
        return value(*inputs, *(() if graph is None else (graph,)))

    def gradient(inputs: tuple, graph: Graph | None, cotangents: list) -> Any:
        primal, pull = jax.vjp(lambda *inputs: forward(inputs, graph, []), *inputs)
        return primal, pull(cotangents)

    if cell.mode == "forward":
        return Program(forward, inputs, graph, [], size, **about)
    return Program(gradient, inputs, graph, results, size, **about)
