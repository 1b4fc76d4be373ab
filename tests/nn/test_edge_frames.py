"""Into the frames of the edges and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.edge_frames import edge_frames
from mlip.nn.irreps import degree_slice
from tests.support.rotations import harmonics, random_rotation, representation
from tests.tolerances import FLOAT64

LMAX, ROWS, WIDTH, CHANNELS = 3, 3, 4, 2
TIGHT = 100 * FLOAT64.relative
RNG = np.random.default_rng(0)
DIRECTIONS = RNG.normal(size=(ROWS, WIDTH, 3))
DIRECTIONS[0] = [[0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, -1]]  # poles, and between the charts
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=-1, keepdims=True)
WEIGHT = RNG.uniform(0.5, 1.5, size=(ROWS, WIDTH))
X = RNG.normal(size=(ROWS, WIDTH, (LMAX + 1) ** 2, CHANNELS))


def by_degrees(x):
    return [x[..., degree_slice(l), :] for l in range(LMAX + 1)]


def there_and_back(directions, x, mmax, scale=lambda l: 1.0):
    frames = edge_frames(jnp.asarray(directions), jnp.asarray(WEIGHT), LMAX, mmax)
    rotated = frames.rotate([jnp.asarray(part) for part in by_degrees(x)])
    return frames.sum_back([part * scale(l) for l, part in enumerate(rotated)])


def test_all_orders_give_the_features_back():
    """Times the weight of the edge, summed over the row."""
    run = jax.jit(lambda directions, x: there_and_back(directions, x, LMAX))
    expected = np.einsum("bw,bwmc->bmc", WEIGHT, X)
    np.testing.assert_allclose(run(DIRECTIONS, X), expected, rtol=0, atol=TIGHT)


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
@pytest.mark.parametrize("mmax", [0, 1])
def test_truncation_is_equivariant(mmax, sign):
    """And it does leave something out."""
    run = jax.jit(lambda directions, x: there_and_back(directions, x, mmax, scale=lambda l: 1 + l))
    matrix = sign * random_rotation(3)
    d = representation(matrix, LMAX)
    plain = run(DIRECTIONS, X)
    turned = run(DIRECTIONS @ matrix.T, np.einsum("mn,bwnc->bwmc", d, X))
    expected = np.einsum("mn,bnc->bmc", d, plain)
    np.testing.assert_allclose(turned, expected, rtol=0, atol=TIGHT)
    degrees = np.repeat(1 + np.arange(LMAX + 1), 2 * np.arange(LMAX + 1) + 1)
    full = np.einsum("bw,m,bwmc->bmc", WEIGHT, degrees, X)
    assert np.abs(full - plain).max() > 0.1


@pytest.mark.parametrize("mmax", [0, 2])
def test_spread_is_weighted_harmonics(mmax):
    scalars = RNG.normal(size=(LMAX + 1, ROWS, WIDTH, CHANNELS))
    y = harmonics(DIRECTIONS.reshape(-1, 3), LMAX).reshape(ROWS, WIDTH, -1)
    expected = [
        np.einsum("bw,bwm,bwc->bmc", WEIGHT, y[..., degree_slice(l)], scalars[l])
        for l in range(LMAX + 1)
    ]
    spread = jax.jit(
        lambda directions, parts: edge_frames(directions, WEIGHT, LMAX, mmax).spread(parts)
    )(DIRECTIONS, list(scalars))
    np.testing.assert_allclose(spread, np.concatenate(expected, axis=1), rtol=0, atol=TIGHT)
