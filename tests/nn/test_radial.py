"""Radial functions: their formulas, and what must vanish at the cutoff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.radial import (
    GaussianBasis,
    NormalizedRadialMLP,
    RadialMLP,
    agnesi_transform,
    bessel_basis,
    polynomial_envelope,
    scaled_silu,
)
from tests.tolerances import FLOAT64

CUTOFF = 4.0


def envelope(power):
    return lambda r: polynomial_envelope(r, CUTOFF, power)


@pytest.mark.parametrize("power", [5, 6])
def test_envelope(power):
    value = envelope(power)
    slope = jax.jit(jax.grad(value))
    curvature = jax.jit(jax.grad(jax.grad(value)))
    assert value(0.0) == 1.0
    inside = CUTOFF * (1 - 1e-9)
    # f is cubic in the distance from the cutoff.
    for function, bound in ((value, 1e-15), (slope, 1e-12), (curvature, 1e-5)):
        assert abs(function(inside)) < bound
        assert function(CUTOFF) == function(1.5 * CUTOFF) == 0.0
    samples = np.asarray(jax.vmap(value)(jnp.linspace(0.0, CUTOFF, 50)))
    assert np.all(np.diff(samples) <= 0)


def test_bessel_values():
    r = np.array([0.3, 1.7, 3.9])
    n = np.arange(1, 9)
    expected = np.sqrt(2 / CUTOFF) * np.sin(n * np.pi * r[:, None] / CUTOFF) / r[:, None]
    ours = bessel_basis(jnp.asarray(r), CUTOFF, 8)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=FLOAT64.relative)
    assert bessel_basis(jnp.asarray(r, jnp.float32), CUTOFF, 8).dtype == np.float32


def test_bessel_functions_are_orthonormal():
    """∫ b_n b_m r² dr = δ_nm over the sphere."""
    r = (np.arange(2000) + 0.5) * CUTOFF / 2000
    b = np.asarray(bessel_basis(jnp.asarray(r), CUTOFF, 4))
    overlap = np.einsum("rn,rm,r->nm", b, b, r**2) * CUTOFF / 2000
    np.testing.assert_allclose(overlap, np.eye(4), rtol=0, atol=1e-10)


def test_agnesi_transform_falls_from_one_to_zero():
    r = jnp.asarray([1e-6, 0.4, 1.2, 3.0, 1e6])
    y = np.asarray(agnesi_transform(r, jnp.full_like(r, 1.2)))
    assert np.all(np.diff(y) < 0)
    np.testing.assert_allclose(y[2], 1 / (1 + 1.0805 / 2), rtol=FLOAT64.relative)
    np.testing.assert_allclose(y[[0, 4]], [1.0, 0.0], atol=1e-4)


def test_silu_has_unit_second_moment():
    z = jnp.linspace(-10.0, 10.0, 4001)
    density = jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)
    moment = jnp.trapezoid(scaled_silu(z) ** 2 * density, z)
    assert moment == pytest.approx(1.0, abs=1e-2)  # e3nn's is a sampled estimate


def test_network_maps_zero_to_zero_at_any_leading_shape():
    """Without biases edges beyond the cutoff send nothing."""
    network = RadialMLP((8, 4, 6), rngs=nnx.Rngs(0), dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(0), (2, 3, 8), jnp.float64)
    out = network(x)
    assert out.shape == (2, 3, 6)
    first, last = (np.asarray(weight[...]) for weight in network.weights)
    expected = scaled_silu(x @ first / np.sqrt(8)) @ last / np.sqrt(4)
    np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT64.relative)
    assert not np.any(network(jnp.zeros_like(x)))


def test_gaussian_basis():
    """Normal densities of r/r_c; their centres and widths, slope and offset are trained."""
    basis = GaussianBasis(CUTOFF, 6, rngs=nnx.Rngs(0), dtype=jnp.float64)
    r = np.linspace(-6 * CUTOFF, 7 * CUTOFF, 20_001)
    values = np.asarray(basis(jnp.asarray(r)))
    center, width = np.asarray(basis.center[...]), np.asarray(basis.width[...])
    assert np.all((center > 0) & (center < 1) & (width > 1 / 6) & (width < 1))
    t = r[:, None] / CUTOFF
    weights = values / values.sum(axis=0)
    np.testing.assert_allclose(np.trapezoid(values, t, axis=0), 1.0, atol=1e-6)
    np.testing.assert_allclose((weights * t).sum(axis=0), center, atol=1e-6)
    spread = np.sqrt((weights * (t - center) ** 2).sum(axis=0))
    np.testing.assert_allclose(spread, width, atol=2e-5)
    assert len(jax.tree.leaves(nnx.state(basis, nnx.Param))) == 4


def test_normalized_network():
    """Linear, layer norm, SiLU; then linear without bias, and an offset."""
    network = NormalizedRadialMLP((8, 4, 6), rngs=nnx.Rngs(0), dtype=jnp.float64)
    network.biases[0][...] = jnp.arange(4.0)
    x = np.random.default_rng(0).normal(size=(2, 3, 8))
    first, last = (np.asarray(weight[...]) for weight in network.weights)
    hidden = x @ first / np.sqrt(8) + np.arange(4.0)
    hidden -= hidden.mean(axis=-1, keepdims=True)
    hidden /= np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + 1e-5)
    hidden = hidden / (1 + np.exp(-hidden))
    offset = np.asarray(network.offset[...])
    assert 0 < np.abs(offset).max() < 1 / np.sqrt(4)
    expected = hidden @ last / np.sqrt(4) + offset
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=0, atol=FLOAT64.relative)
