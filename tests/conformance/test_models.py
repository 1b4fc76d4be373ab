"""What every model must obey, in both precisions."""

from functools import cache

import numpy as np
import pytest

from mlip.data.structure import Structure
from mlip.models import MODEL_CONFIGS
from tests.conformance.configs import TINY
from tests.support.potentials import SHAPE, crystal, molecule, moved, outputs, potential_of
from tests.support.rotations import random_rotation
from tests.tolerances import tolerance

CASES = [(name, precision) for name in MODEL_CONFIGS for precision in ("float32", "float64")]
pytestmark = pytest.mark.parametrize(("name", "precision"), CASES)
ATOMS = 7


@cache
def potential(name, precision):
    return potential_of(TINY[name], precision)


@cache
def structure(name):
    return molecule(3, ATOMS, TINY[name].elements)


def check(name, precision, changed, expected):
    """Evaluate the structure beside a changed one; `expected` maps the forces of the first."""
    plain, other = outputs(potential(name, precision), [structure(name), changed])
    accepted = tolerance(precision)
    assert plain.forces.dtype == np.dtype(precision)
    assert np.abs(plain.forces).max() > 100 * accepted.forces
    np.testing.assert_allclose(other.energy, plain.energy, rtol=0, atol=accepted.energy)
    np.testing.assert_allclose(other.forces, expected(plain.forces), rtol=0, atol=accepted.forces)


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "inversion"])
def test_orthogonal_transformations(name, precision, sign):
    matrix = sign * random_rotation(11)
    changed = moved(structure(name), structure(name).positions @ matrix.T)
    check(name, precision, changed, lambda forces: forces @ matrix.T)


def test_permutation(name, precision):
    order = np.random.default_rng(0).permutation(ATOMS)
    one = structure(name)
    changed = Structure(one.numbers[order], one.positions[order])
    check(name, precision, changed, lambda forces: forces[order])


def test_translation_far_from_the_origin(name, precision):
    changed = moved(structure(name), structure(name).positions + np.array([1e3, -2e3, 5e2]))
    check(name, precision, changed, lambda forces: forces)


def test_forces_are_minus_the_gradient(name, precision):
    """Along random directions, small enough a step for the precision."""
    step = {"float32": 1e-2, "float64": 1e-4}[precision]
    directions = np.random.default_rng(1).normal(size=(8, ATOMS, 3)) / np.sqrt(3 * ATOMS)
    one = structure(name)
    displaced = [
        moved(one, one.positions + sign * step * d) for d in directions for sign in (1, -1)
    ]
    results = outputs(potential(name, precision), [one, *displaced])
    energies = np.array([float(result.energy) for result in results[1:]]).reshape(-1, 2)
    expected = -(energies[:, 0] - energies[:, 1]) / (2 * step)
    actual = np.einsum("dax,ax->d", directions, results[0].forces)
    atol = tolerance(precision).finite_difference * np.abs(actual).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_padding(name, precision):
    """Alone in a tight batch, or with others in a wide one."""
    solid = crystal()
    solid = Structure(np.resize(TINY[name].elements, 2), solid.positions, solid.cell, solid.pbc)
    chosen, accepted = potential(name, precision), tolerance(precision)
    alone = outputs(chosen, [solid], SHAPE._replace(graphs=1, nodes=3, blocks=9, width=5))[0]
    beside = outputs(chosen, [structure(name), solid])[1]
    for field in ("energy", "forces", "stress"):
        np.testing.assert_allclose(
            getattr(alone, field),
            getattr(beside, field),
            rtol=0,
            atol=getattr(accepted, field),
        )
