"""Screened nuclear repulsion."""

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii

from mlip.nn.zbl import zbl_energy

RADII = covalent_radii[8] + covalent_radii[1]


def energy(r, z_i=8.0, z_j=1.0):
    return zbl_energy(r, jnp.asarray(z_i), jnp.asarray(z_j), jnp.asarray(RADII), 6)


def test_repels_until_the_sum_of_radii():
    r = np.linspace(0.05, RADII - 1e-6, 20)
    values = np.asarray(jax.jit(jax.vmap(energy))(jnp.asarray(r)))
    assert np.all(values > 0)
    assert np.all(np.diff(values) < 0)
    for outside in (RADII, 2 * RADII):
        assert energy(outside) == jax.grad(energy)(outside) == 0.0


def test_bare_nuclei_at_contact():
    """φ → 1: half the Coulomb energy, for each direction of the pair."""
    r = 1e-7
    np.testing.assert_allclose(2 * energy(r) * r / (8 * 14.3996), 1.0, atol=1e-4)


def test_symmetric_in_the_pair():
    np.testing.assert_allclose(energy(0.5, 8.0, 1.0), energy(0.5, 1.0, 8.0), rtol=1e-14)
