"""The gate turns with the features and scales each channel by a scalar of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.gate import gate
from mlip.nn.irreps import degree_slice
from mlip.nn.radial import SILU_SCALE
from tests.support.rotations import random_rotation, representation
from tests.tolerances import FLOAT64

CHANNELS = (4, 3, 2)  # after the gate


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    with_gates = (CHANNELS[0] + sum(CHANNELS[1:]), *CHANNELS[1:])
    return [
        jnp.asarray(rng.normal(size=(5, 2 * degree + 1, count)))
        for degree, count in enumerate(with_gates)
    ]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=10 * FLOAT64.relative)


def test_each_channel_has_its_gate(parts):
    scalars, vectors, tensors = gate(parts)
    activated = SILU_SCALE * np.asarray(jax.nn.silu(parts[0]))
    close(scalars, activated[..., :4])
    close(vectors, parts[1] * activated[..., 4:7])
    close(tensors, parts[2] * activated[..., 7:])


def test_scalars_alone_need_no_gate():
    scalars = jnp.asarray([[[-1.0, 0.0, 2.0]]])
    (activated,) = gate([scalars])
    close(activated, SILU_SCALE * jax.nn.silu(scalars))


def test_turns_with_its_input(parts):
    matrix = representation(-random_rotation(3), 2)
    rotations = [matrix[degree_slice(degree), degree_slice(degree)] for degree in range(3)]

    def turned(arrays):
        return [np.einsum("ij,njc->nic", d, x) for d, x in zip(rotations, arrays, strict=True)]

    for after, expected in zip(gate(turned(parts)), turned(gate(parts)), strict=True):
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-10)


def test_keeps_unit_second_moment():
    rng = np.random.default_rng(1)
    scalars = jnp.asarray(rng.normal(size=(100_000, 1, 2)))
    vectors = jnp.asarray(rng.normal(size=(100_000, 3, 1)))
    for part in gate([scalars, vectors]):
        assert np.mean(np.square(part)) == pytest.approx(1.0, abs=0.03)
