"""What every many-body power must obey: symmetries, derivatives, and the couplings it consists of.

Operators are taken from the registry. How many couplings of each degree an operator reaches, and
what an approximate one gets wrong, is recorded among the properties of its tests.
"""

from collections import defaultdict
from functools import cache
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.irreps import clebsch_gordan, degree_slice, dim
from mlip.tensor_products.build import build_power
from mlip.tensor_products.registry import OPERATORS
from tests.support.derivatives import check_derivatives, check_finite, derivatives
from tests.support.tensor_products import (
    Case,
    all_cases,
    error,
    mirror,
    rotation,
)

SIZES = [(1, 2), (2, 3), (1, 4)]  # degree and correlation
WITH_OPTIONS = (2, 3)
TO_DERIVE = (1, 2)  # of larger ones programs with second derivatives compile slowly
ELEMENTS, CHANNELS, SAMPLES = 2, 8, 24
NEGLIGIBLE = 1e-9  # of a singular value, relative to the largest


class PowerCase(NamedTuple):
    """An operator with the degree of everything, and the highest number of factors."""

    case: Case
    correlation: int

    def __str__(self):
        return f"{self.case}-{self.correlation}"

    @property
    def size(self):
        return self.case.degree, self.correlation

    @property
    def operator(self):
        return OPERATORS[self.case.name]


def all_powers():
    found = []
    for degree, correlation in SIZES:
        others_at = degree if (degree, correlation) == WITH_OPTIONS else None
        found += [PowerCase(case, correlation) for case in all_cases("power", [degree], others_at)]
    return found


powers = pytest.mark.parametrize("power", all_powers(), ids=str)
powers_to_derive = pytest.mark.parametrize(
    "power", [one for one in all_powers() if one.size == TO_DERIVE], ids=str
)


@cache
def samples(degree):
    return np.random.default_rng(8).normal(size=(SAMPLES, dim(degree)))


class Evaluated(NamedTuple):
    """A power with random weights for each element and channel, of one feature in all channels.

    Attributes:
        program: under `vmap`, see `derivatives`.
        features: a batch of samples as they are, rotated and mirrored.
        values: for the three of them, shape (3, elements, samples, d, channels).
        paths: of the couplings, `even` or `mixed`; whether they are exact.
    """

    program: object
    features: np.ndarray
    values: np.ndarray
    paths: str
    exact: bool


@cache
def evaluated(power):
    case, correlation = power
    module = build_power(
        case.settings,
        case.degree,
        case.degree,
        correlation,
        ELEMENTS,
        CHANNELS,
        rngs=nnx.Rngs(0),
        dtype=jnp.float64,
    )
    species = np.repeat(np.arange(ELEMENTS, dtype=np.int32), SAMPLES)

    def function(features):
        return module(features, jnp.asarray(species))

    x = samples(case.degree)
    batch = np.stack([x, x @ rotation(case.degree).T, x * mirror(case.degree)])
    features = np.repeat(np.tile(batch, (1, ELEMENTS, 1))[..., None], CHANNELS, axis=3)
    program = derivatives(function) if power.size == TO_DERIVE else values_of(function)
    parts = program(features)["parts"]
    values = parts.reshape(3, ELEMENTS, SAMPLES, dim(case.degree), CHANNELS)
    products = getattr(module, "products", ())
    paths = products[0].paths[0] if products else "even"
    return Evaluated(program, features, values, paths, all(one.exact for one in products))


def values_of(function):
    program = jax.jit(jax.vmap(function))
    return lambda features: {"parts": np.asarray(program(features))}


@powers
def test_power_turns_and_is_mirrored(power, check):
    found = evaluated(power)
    plain, rotated, mirrored = found.values
    turned = np.einsum("ij,esjc->esic", rotation(power.case.degree), plain)
    check("rotation", error([rotated], [turned]), found.exact)
    broken = error([mirrored], [plain * mirror(power.case.degree)[:, None]])
    if found.paths == "mixed":
        assert broken > 1e-2
    else:
        check("inversion", broken)


@powers_to_derive
def test_derivatives_of_the_power(power):
    found = evaluated(power)
    check_derivatives(found.program, [found.features])
    check_finite(found.program, [np.zeros_like(found.features)])


@powers
def test_power_consists_of_couplings(power, check, record_property):
    """Functions of all elements and channels lie in the span of the couplings, or are all of it."""
    found, (degree, correlation) = evaluated(power), (power.case.degree, power.correlation)
    rest, reached, possible = [], [], []
    for l, (natural, pseudo) in enumerate(couplings(degree, correlation)):
        columns = natural if found.paths == "even" else np.concatenate([natural, pseudo], axis=-1)
        basis = orthonormal(columns.reshape(-1, columns.shape[-1]))
        values = np.moveaxis(found.values[0][:, :, degree_slice(l)], 0, -1)
        functions = values.reshape(len(basis), -1)
        functions = functions / np.linalg.norm(functions, axis=0)
        rest.append(np.linalg.norm(functions - basis @ (basis.T @ functions), axis=0).max())
        reached.append(orthonormal(functions).shape[1])
        possible.append(basis.shape[1])
    record_property("reached", f"{reached} of {possible}")
    check("couplings", max(rest), found.exact)
    # Each number of factors adds something of its own.
    assert all(n >= correlation for n in reached)
    if power.operator.complete:
        assert reached == possible


def orthonormal(columns):
    """A basis of the space of columns, which must leave no doubt about its dimension."""
    norms = np.linalg.norm(columns, axis=0)
    used = norms > NEGLIGIBLE * norms.max()  # couplings of equal features can cancel
    columns = columns[:, used] / norms[used]
    basis, values, _ = np.linalg.svd(columns, full_matrices=False)
    large = values > NEGLIGIBLE * values[0]
    assert values[large].min() > 1e3 * values[~large].max(initial=0.0)
    return basis[:, large]


@cache
def couplings(degree, correlation):
    """All couplings of up to ν equal features, with all intermediate degrees, at the samples.

    Returns:
        for each degree those of natural parity and those of the opposite one, each of shape
        (samples, 2l + 1, count).
    """
    x = samples(degree)
    orders = [{(l, 0): [x[:, degree_slice(l), None]] for l in range(degree + 1)}]
    for order in range(2, correlation + 1):
        highest = degree * (order if order < correlation else 1)
        following = defaultdict(list)
        for (l1, parity), parts in orders[-1].items():
            left = np.concatenate(parts, axis=-1)
            for l2, l3 in product(range(degree + 1), range(highest + 1)):
                if abs(l1 - l2) <= l3 <= l1 + l2:
                    block = np.tensordot(left, clebsch_gordan(l1, l2, l3), (1, 0))
                    right = x[:, degree_slice(l2)]
                    coupled = np.einsum("npbm,nb->nmp", block, right)
                    following[l3, (parity + l1 + l2 + l3) % 2].append(coupled)
        orders.append(following)
    return [tuple(joined(orders, l, parity) for parity in range(2)) for l in range(degree + 1)]


def joined(orders, l, parity):
    """Of all orders, along the last axis."""
    none = np.zeros((SAMPLES, 2 * l + 1, 0))
    return np.concatenate([none, *(p for one in orders for p in one.get((l, parity), []))], axis=-1)
