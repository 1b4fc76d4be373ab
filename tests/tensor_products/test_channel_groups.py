"""Convolutions of features that have fewer channels at higher degrees."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.errors import MlipError
from mlip.graph import bare_graph
from mlip.nn.irreps import coupling_paths, degree_slice
from mlip.tensor_products.build import build_convolution
from mlip.tensor_products.channel_groups import GroupedConvolution, channel_groups
from mlip.tensor_products.registry import OPERATORS
from tests.support.rotations import harmonics, random_rotation, representation

CHANNELS = (3, 2)
NODES = 3
RECEIVERS = np.array([0, 1, 1, 2])
SENDERS = np.array([[1, 2], [0, 2], [2, 0], [1, 1]])
OPERATORS_WITH_CONVOLUTION = [
    name for name, operator in OPERATORS.items() if "convolution" in operator.roles
]


def grouped(name, channels=CHANNELS, lmax=2):
    settings = OPERATORS[name].settings()
    return GroupedConvolution(lambda l: build_convolution(settings, l, lmax, lmax), channels)


@cache
def graph():
    return bare_graph(RECEIVERS, SENDERS, NODES)


def features(channels=CHANNELS, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(NODES, 2 * l + 1, count)) for l, count in enumerate(channels)]


def edges(matrix=None, lmax=2):
    vectors = np.random.default_rng(1).normal(size=(8, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    values = harmonics(vectors if matrix is None else vectors @ matrix.T, lmax)
    return [jnp.asarray(column.reshape(4, 2)) for column in values.T]


def weights(convolution):
    return jnp.asarray(np.random.default_rng(2).normal(size=(4, 2, convolution.num_weights)))


def program(convolution):
    return jax.jit(partial(convolution, graph=graph()))


def test_channels_are_cut_where_a_degree_ends():
    assert channel_groups((128, 64, 32, 32)) == [(0, 32, 3), (32, 64, 1), (64, 128, 0)]
    assert channel_groups((8, 8, 8)) == [(0, 8, 2)]
    assert channel_groups((5,)) == [(0, 5, 0)]


@pytest.mark.parametrize("channels", [(2, 3), (2, 0), ()])
def test_what_cannot_be_cut_is_refused(channels):
    with pytest.raises(MlipError, match="no more than for the degree below"):
        channel_groups(channels)


def test_as_many_weights_and_messages_as_couplings_of_what_exists():
    convolution = grouped("channelwise", (128, 64, 32, 32), 3)
    channels = (128, 64, 32, 32)
    paths = coupling_paths(3, 3, 3)
    assert convolution.num_weights == sum(channels[path.l1] for path in paths) == 1312
    expected = [sum(channels[path.l1] for path in paths if path.l3 == l) for l in range(4)]
    assert list(convolution.output_channels) == expected


def test_equal_channels_are_one_plain_convolution():
    convolution = grouped("channelwise", (2, 2, 2))
    plain = build_convolution(OPERATORS["channelwise"].settings(), 2, 2, 2)
    x, w = features((2, 2, 2)), weights(convolution)
    found = program(convolution)(x, edges(), weights=w)
    expected = program(plain)(np.concatenate(x, axis=1), edges(), weights=w)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", OPERATORS_WITH_CONVOLUTION)
def test_every_operator_turns_with_its_input(name):
    convolution = grouped(name)
    compiled = partial(program(convolution), weights=weights(convolution))
    matrix = random_rotation(4)
    full = representation(matrix, 2)

    def turned(parts):
        rotations = [full[degree_slice(l), degree_slice(l)] for l in range(len(parts))]
        return [np.einsum("ij,njc->nic", d, x) for d, x in zip(rotations, parts, strict=True)]

    before = compiled(features(), edges())
    after = compiled(turned(features()), edges(matrix))
    assert [part.shape[-1] for part in before] == list(convolution.output_channels)
    assert all(np.any(part) for part in before)
    for found, expected in zip(after, turned(before), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_channels_do_not_mix():
    """A change of the last channel, which is a scalar, reaches its own messages alone."""
    convolution = grouped("channelwise")
    x, compiled = features(), partial(program(convolution), weights=weights(convolution))
    before = compiled(x, edges())
    scalars = x[0].copy()  # the program may still be reading what it was given
    scalars[..., 2] += 1.0
    after = compiled([scalars, *x[1:]], edges())
    for one, other in zip(before, after, strict=True):
        changed = np.any(np.asarray(one) != np.asarray(other), axis=(0, 1))
        assert list(np.flatnonzero(changed)) == [len(changed) - 1]
