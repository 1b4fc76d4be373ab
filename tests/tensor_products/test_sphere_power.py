"""Powers on the sphere against the same products made of Gaunt coefficients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.irreps import degree_slice, dim
from mlip.nn.linear import split_degrees
from mlip.tensor_products.gaunt_coefficients import gaunt_normalization, gaunt_tensor
from mlip.tensor_products.sphere import GridTransform, PointTransform
from mlip.tensor_products.sphere_power import SpherePower, power_normalization
from tests.support.rotations import random_rotation, representation
from tests.tolerances import FLOAT64

TRANSFORMS = [PointTransform, GridTransform]
ATOMS, CHANNELS, ELEMENTS = 4, 2, 2
SPECIES = np.array([0, 1, 1, 0])


def make_power(transform, lmax, hidden_lmax, correlation, channels=CHANNELS):
    return SpherePower(
        transform,
        lmax,
        hidden_lmax,
        correlation,
        ELEMENTS,
        channels,
        rngs=nnx.Rngs(0),
        dtype=jnp.float64,
    )


def make_features(lmax):
    return np.random.default_rng(0).normal(size=(ATOMS, dim(lmax), CHANNELS))


def raw_gaunt(lmax1, lmax2, output_lmax):
    """Gaunt coefficients without factors."""
    factors = gaunt_normalization(lmax1, lmax2, output_lmax)
    return gaunt_tensor(lmax1, lmax2, output_lmax) / np.repeat(
        factors, 2 * np.arange(output_lmax + 1) + 1
    )


def from_coefficients(power, features, lmax, hidden_lmax):
    """The same sum of orders, one product of two functions after the other, degrees kept."""
    running, total = features, np.asarray(power.outputs[0](features, SPECIES))
    for order, (factor, output) in enumerate(
        zip(power.factors, power.outputs[1:], strict=True), start=2
    ):
        image = np.asarray(factor(split_degrees(jnp.asarray(features))))
        tensor = raw_gaunt((order - 1) * lmax, lmax, order * lmax)
        running = np.einsum("abk,nac,nbc->nkc", tensor, running, image)
        scale = power_normalization(lmax, order, hidden_lmax)
        kept = running[:, : dim(hidden_lmax)]
        scaled = kept * np.repeat(scale, 2 * np.arange(hidden_lmax + 1) + 1)[:, None]
        total = total + np.asarray(output(jnp.asarray(scaled), SPECIES))
    return total


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("lmax", "hidden_lmax", "correlation"), [(2, 1, 3), (1, 1, 4), (2, 2, 2), (2, 0, 1), (0, 0, 3)]
)
def test_equals_products_of_gaunt_coefficients(transform, lmax, hidden_lmax, correlation):
    power, features = make_power(transform, lmax, hidden_lmax, correlation), make_features(lmax)
    expected = from_coefficients(power, features, lmax, hidden_lmax)
    actual = nnx.jit(power)(jnp.asarray(features), SPECIES)
    assert actual.shape == (ATOMS, dim(hidden_lmax), CHANNELS)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e2 * FLOAT64.relative)


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_equivariance(sign):
    power = make_power(GridTransform, 3, 2, 3)
    d = representation(sign * random_rotation(1), 3)
    program, features = nnx.jit(power), make_features(3)
    before = program(jnp.asarray(features), SPECIES)
    after = program(jnp.asarray(np.einsum("ij,njc->nic", d, features)), SPECIES)
    expected = np.einsum("ij,njc->nic", d[: dim(2), : dim(2)], before)
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e2 * FLOAT64.relative)


def test_normalization_of_two_factors_is_that_of_the_gaunt_product():
    np.testing.assert_allclose(
        power_normalization(3, 2, 4), gaunt_normalization(3, 3, 4), rtol=1e-12
    )


def test_second_derivatives_are_finite():
    power, features = make_power(PointTransform, 1, 1, 3), jnp.asarray(make_features(1))

    def loss(power, x):
        gradient = jax.grad(lambda x: power(x, SPECIES)[:, 0].sum())(x)
        return jnp.sum(gradient**2)

    gradients = nnx.jit(nnx.grad(loss, argnums=(0, 1)))(power, features)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_each_degree_of_the_result_has_unit_variance():
    features = np.random.default_rng(1).normal(size=(400, dim(2), 8))
    species = np.zeros(400, dtype=int)
    power = make_power(PointTransform, 2, 2, 3, channels=8)
    for output in power.outputs:
        weights = output.weights[...]
        output.weights[...] = jnp.full_like(weights, float(output is power.outputs[2]))
    cube = np.asarray(power(jnp.asarray(features), species))
    for l in range(3):
        assert np.var(cube[:, degree_slice(l)]) == pytest.approx(1, abs=0.35)
