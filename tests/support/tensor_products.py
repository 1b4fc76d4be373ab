"""Tensor products with the inputs and references that their tests share."""

from collections.abc import Iterator
from functools import cache
from itertools import product as pairs
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from mlip.graph import bare_graph
from mlip.nn.geometry import lengths_and_directions, with_dummy_padding
from mlip.nn.irreps import clebsch_gordan, degree_slice, dim
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.build import build_convolution, build_product
from mlip.tensor_products.registry import OPERATORS
from tests.support.derivatives import derivatives
from tests.support.rotations import harmonics, random_rotation, representation

EVERY_DEGREE = 4  # up to it each operator is tested, whatever it costs
AFFORDABLE = 100_000  # multiplications; beyond that degree others take too long to compile
CHOICES = Path(__file__).parents[2] / "configs" / "tensor_product"
SAMPLES = 4
ROTATION = random_rotation(3)


class Case(NamedTuple):
    """An operator, its options that differ from the defaults, and the degree of everything."""

    name: str
    options: tuple[tuple[str, object], ...]
    degree: int

    def __str__(self):
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options), f"L{self.degree}"])

    @property
    def settings(self):
        return OPERATORS[self.name].settings(**dict(self.options))


def cases(role, degrees, others_at=None):
    """`all_cases` as parameters of a test, those of high degree marked as slow."""
    found = [
        pytest.param(case, marks=[pytest.mark.slow] if case.degree > EVERY_DEGREE else [])
        for case in all_cases(role, degrees, others_at)
    ]
    return pytest.mark.parametrize("case", found, ids=str)


def all_cases(role, degrees, others_at=None):
    """Every operator of a role at some degrees, and with every other choice at one degree.

    Of operators that are built in the same way one is enough.
    """
    found, seen = [], []
    for name, operator in OPERATORS.items():
        many_body = operator.power or operator.product
        builder = many_body if role == "power" else getattr(operator, role)
        if builder is None or builder in seen:
            continue
        seen.append(builder)
        last = operator.last_degree
        found += [Case(name, (), degree) for degree in degrees if last is None or degree <= last]
        if others_at is not None:
            found += [Case(name, options, others_at) for options in other_options(name)]
    return found


def other_options(name) -> list[tuple[tuple[str, object], ...]]:
    """What differs from the defaults: every single option, and the files in configs/."""
    fields = OPERATORS[name].settings.model_fields
    singles = [(option,) for option in _single_options(fields)]
    files = [
        tuple((key, value) for key, value in chosen.items() if value != fields[key].default)
        for chosen in choices().values()
        if chosen["name"] == name
    ]
    return list(dict.fromkeys([*singles, *filter(None, files)]))


@cache
def choices():
    """Operators and their options by the words that a user types, but for `auto`."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CHOICES.glob("*.yaml"))}
    return {word: chosen for word, chosen in files.items() if chosen["name"] in OPERATORS}


def _single_options(fields) -> Iterator[tuple[str, object]]:
    """Names, switches and limits that differ from the default."""
    for key, field in fields.items():
        if key == "name":
            continue
        values = set(_named_values(field.annotation))
        values |= {True, False} if field.annotation is bool else set()
        values |= {1} if field.default is None and int in get_args(field.annotation) else set()
        yield from ((key, value) for value in sorted(values - {field.default}, key=str))


def _named_values(annotation):
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _named_values(part)]


@cache
def the_product(case):
    product = build_product(case.settings, *(case.degree,) * 3)
    skip_unaffordable(case, sum(product.multiplies(paths) for paths in product.paths))
    return product


@cache
def the_convolution(case):
    convolution = build_convolution(case.settings, *(case.degree,) * 3)
    skip_unaffordable(case, convolution.multiplies)
    return convolution


def skip_unaffordable(case, size):
    if case.degree > EVERY_DEGREE and size > AFFORDABLE:
        pytest.skip(f"{case} has {size} multiplications, more than {AFFORDABLE}")


@cache
def rotation(degree):
    """Of features of degrees 0..degree."""
    return representation(ROTATION, degree)


def mirror(degree):
    """Inversion of features: (−1)^l."""
    return np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in range(degree + 1)])


@cache
def factors(degree):
    """Pairs (x, y) of shape (batch, d, 2).

    Channel 0 holds all pairs of unit vectors; channel 1 random pairs, the same rotated, and the
    same mirrored, SAMPLES of each.
    """
    d = dim(degree)
    batch = max(d * d, 3 * SAMPLES)
    x, y = np.random.default_rng(degree).normal(size=(2, batch, d, 2))
    x[: d * d, :, 0] = np.repeat(np.eye(d), d, axis=0)
    y[: d * d, :, 0] = np.tile(np.eye(d), (d, 1))
    for one in (x, y):
        plain = one[:SAMPLES, :, 1]
        one[SAMPLES : 2 * SAMPLES, :, 1] = plain @ rotation(degree).T
        one[2 * SAMPLES : 3 * SAMPLES, :, 1] = plain * mirror(degree)
    return x, y


class ProductResult(NamedTuple):
    """One degree: coefficients (d, d, 2l + 1, copies), random pairs (SAMPLES, 2l + 1, copies)."""

    tensor: np.ndarray
    plain: np.ndarray
    rotated: np.ndarray
    mirrored: np.ndarray


@cache
def product_results(case, precision="float64"):
    """The result of one degree after the other for each set of couplings."""
    product = the_product(case)
    x, y = (jnp.asarray(one, precision) for one in factors(case.degree))
    program = jax.jit(lambda x, y: {paths: product(x, y, paths) for paths in product.paths})
    d = dim(case.degree)
    results = {}
    for paths, parts in program(x, y).items():
        assert all(part.dtype == jnp.dtype(precision) for part in parts)
        results[paths] = []
        for l, (part, copies) in enumerate(zip(parts, product.copies(paths), strict=True)):
            assert part.shape == (len(x), 2 * l + 1, 2 * copies)
            values = np.asarray(part).reshape(len(x), 2 * l + 1, copies, 2)
            random = values[: 3 * SAMPLES, ..., 1].reshape(3, SAMPLES, 2 * l + 1, copies)
            tensor = values[: d * d, ..., 0].reshape(d, d, 2 * l + 1, copies)
            results[paths].append(ProductResult(tensor, *random))
    return results


def beyond_couplings(tensor, degree, l3, parities):
    """What remains of a tensor (d, d, 2 l3 + 1, copies) without multiples of coupling blocks."""
    rest = tensor.copy()
    for l1, l2 in pairs(range(degree + 1), repeat=2):
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 in parities:
            place = (degree_slice(l1), degree_slice(l2))
            block = clebsch_gordan(l1, l2, l3)
            coefficients = np.einsum("abmp,abm->p", tensor[place], block)
            rest[place] -= block[..., None] * coefficients
    return rest


@cache
def product_derivatives(case):
    """A program of (x, y), see `derivatives`, and random pairs of `factors` in two batches."""
    product = the_product(case)

    def parts(x, y):
        return {paths: product(x, y, paths) for paths in product.paths}

    inputs = np.stack([one[:SAMPLES] for one in factors(case.degree)])
    return derivatives(parts), inputs.reshape(2, 2, -1, *inputs.shape[2:])


def error(actual, expected):
    """Largest difference relative to the largest expected number, over all arrays."""
    both = list(zip(actual, expected, strict=True))
    assert all(a.shape == b.shape for a, b in both)
    largest = max(np.abs(b).max(initial=0.0) for _, b in both)
    return max(np.abs(a - b).max(initial=0.0) for a, b in both) / (largest or 1.0)


RECEIVERS = np.array([0, 1, 2, 3, 4, 4, 5, 5])
SLOTS, NODES = 3, 6
MASK = np.ones((len(RECEIVERS), SLOTS), bool)
MASK[5, 2], MASK[7] = False, False
ALONE = np.zeros_like(MASK)
ALONE[[0, 1, 2, 3, 4, 6], 0] = True  # one edge for each atom


class Edges(NamedTuple):
    """What a convolution is given: features (N, d, C), vectors (B, W, 3), weights (B, W, n · C)."""

    features: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray


def senders():
    """The sending atom of each edge."""
    return np.random.default_rng(0).integers(NODES, size=MASK.shape) * MASK


def graph():
    return bare_graph(RECEIVERS, senders(), NODES).replace(edge_mask=jnp.asarray(MASK))


@cache
def edges(degree, num_weights):
    """Random features on `edge_vectors`, with weights that are alike for all edges."""
    rng = np.random.default_rng(degree)
    channels = max(dim(degree), 2)
    weights = np.repeat(rng.normal(size=num_weights), channels) * MASK[..., None]
    features = rng.normal(size=(NODES, dim(degree), channels))
    return Edges(features, edge_vectors(), weights)


def edge_vectors():
    """Random, but along each direction of every axis for the first two atoms."""
    vectors = np.random.default_rng(6).normal(size=(*MASK.shape, 3))
    vectors[0], vectors[1] = 1.5 * np.eye(3), -1.5 * np.eye(3)
    return vectors


def edge_harmonics(vectors, degree):
    """Shape ((degree + 1)², B, W)."""
    directions = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return harmonics(directions.reshape(-1, 3), degree).T.reshape(-1, *MASK.shape)


def messages(convolution, features, vectors, weights):
    """The convolution as a model calls it, from vectors of any length."""
    with_padding = with_dummy_padding(graph(), vectors, 6.0)
    _, directions = lengths_and_directions(with_padding)
    y = spherical_harmonics(directions, convolution.harmonics_lmax)
    return convolution(features, y, weights, graph())


@cache
def convolution_program(case, precision="float64"):
    """From `Edges` to one array (N, 2l + 1, copies, C) for each degree.

    The harmonics are no part of the program, which keeps it small.
    """
    convolution = the_convolution(case)
    program = jax.jit(lambda x, y, w: convolution(x, list(y), w, graph()))

    def run(inputs):
        arrays = inputs.features, edge_harmonics(inputs.vectors, case.degree), inputs.weights
        parts = program(*(jnp.asarray(array, precision) for array in arrays))
        assert all(part.dtype == jnp.dtype(precision) for part in parts)
        copies = convolution.output_multiplicity
        shapes = [(NODES, 2 * l + 1, n, inputs.features.shape[2]) for l, n in enumerate(copies)]
        return [np.asarray(part).reshape(s) for part, s in zip(parts, shapes, strict=True)]

    return run


@cache
def convolution_derivatives(case):
    """A program of features, vectors and weights, see `derivatives`, and a batch of two for it.

    The vectors of padded edges have no length, those of the first of the two are `edge_vectors`
    otherwise.
    """
    convolution = the_convolution(case)

    def parts(features, vectors, weights):
        masked = weights * jnp.asarray(MASK, weights.dtype)[..., None]
        return messages(convolution, features, vectors, masked)

    rng = np.random.default_rng(4)
    one = edges(case.degree, convolution.num_weights)
    vectors = np.stack([one.vectors, rng.normal(size=one.vectors.shape)]) * MASK[..., None]
    features, weights = (rng.normal(size=(2, *a.shape)) for a in (one.features, one.weights))
    return derivatives(parts), Edges(features, vectors, weights)


@cache
def edge_couplings(l1, l3, parities):
    """Couplings of l1 to l3 with the harmonics of the edges: (l2, B, W, 2 l3 + 1, 2 l1 + 1)."""
    y = edge_harmonics(edge_vectors(), l1 + l3)
    blocks = [
        np.einsum("abm,bxy->xyma", clebsch_gordan(l1, l2, l3), y[degree_slice(l2)])
        for l2 in range(abs(l1 - l3), l1 + l3 + 1)
        if (l1 + l2 + l3) % 2 in parities
    ]
    return np.stack(blocks)
