"""Linear maps and gates in the frame of an edge: what commutes with turns and mirrors there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.so2_linear import SO2Linear, by_degree, by_order, gate_orders
from mlip.nn.wigner import row_orders
from tests.tolerances import FLOAT64

LMAX, EDGES, INPUTS, HIDDEN = 3, 5, 2, 4
TIGHT = 100 * FLOAT64.relative


def features(mmax, seed=0):
    """One array for each degree, with the rows |m| ≤ mmax."""
    rng = np.random.default_rng(seed)
    return [
        jnp.asarray(rng.normal(size=(EDGES, 2 * min(l, mmax) + 1, INPUTS))) for l in range(LMAX + 1)
    ]


def turned(parts, angle, mirror):
    """Rows +m and −m turn by m times the angle; a mirror in a plane of the axis turns −m around."""
    result = []
    for part in parts:
        orders = row_orders((part.shape[1] - 1) // 2)
        matrix = np.zeros((len(orders), len(orders)))
        for row, m in enumerate(orders):
            matrix[row, row] = np.cos(m * angle)
            matrix[row, orders.index(-m)] += np.sin(m * angle) if m else 0.0
        matrix = matrix @ np.diag([-1.0 if mirror and m < 0 else 1.0 for m in orders])
        result.append(jnp.asarray(matrix)[None] @ part)
    return result


def layer(mmax):
    """A map to more channels and gates, the gates, and a map back."""
    widen = SO2Linear(
        LMAX, mmax, INPUTS, HIDDEN, LMAX * HIDDEN, rngs=nnx.Rngs(0), dtype=jnp.float64
    )
    narrow = SO2Linear(LMAX, mmax, HIDDEN, INPUTS, rngs=nnx.Rngs(1), dtype=jnp.float64)

    @jax.jit
    def apply(parts):
        hidden, gates = widen(by_order(parts, mmax))
        mapped, _ = narrow(gate_orders(hidden, gates))
        return by_degree(mapped, LMAX)

    return apply


@pytest.mark.parametrize("mmax", [0, 2, LMAX])
@pytest.mark.parametrize("mirror", [False, True])
def test_commutes_with_turns_and_mirrors(mmax, mirror):
    apply, parts = layer(mmax), features(mmax)
    assert [part.shape for part in apply(parts)] == [part.shape for part in parts]
    expected = turned(apply(parts), 0.7, mirror)
    for actual, part in zip(apply(turned(parts, 0.7, mirror)), expected, strict=True):
        assert np.abs(part).max() > 0.1
        np.testing.assert_allclose(actual, part, rtol=0, atol=TIGHT)


@pytest.mark.parametrize("mmax", [0, 1, LMAX])
def test_by_degree_inverts_by_order(mmax):
    parts = features(mmax)
    orders = by_order(parts, mmax)
    signs_and_degrees = [(1 if m == 0 else 2, (LMAX + 1 - m) * INPUTS) for m in range(mmax + 1)]
    assert [x.shape[1:] for x in orders] == signs_and_degrees
    for back, part in zip(by_degree(orders, LMAX), parts, strict=True):
        np.testing.assert_array_equal(back, part)


def test_degrees_and_channels_mix_within_an_order_alone():
    linear = SO2Linear(LMAX, 2, INPUTS, HIDDEN, rngs=nnx.Rngs(0), dtype=jnp.float64)
    assert [w.shape for w in linear.weights] == [(8, 16), (6, 12), (4, 8)]
    for changed in range(3):
        orders = by_order(features(2), 2)
        before, _ = linear(orders)
        orders[changed] = orders[changed] + 1.0
        after, _ = linear(orders)
        moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert moved == [m == changed for m in range(3)]


def test_unit_variance():
    rng = np.random.default_rng(0)
    linear = SO2Linear(1, 1, 50, 60, rngs=nnx.Rngs(0), dtype=jnp.float64)
    orders = [jnp.asarray(rng.normal(size=(40, 1, 100))), jnp.asarray(rng.normal(size=(40, 2, 50)))]
    for mapped in linear(orders)[0]:
        assert np.mean(np.asarray(mapped) ** 2) == pytest.approx(1.0, abs=0.15)
