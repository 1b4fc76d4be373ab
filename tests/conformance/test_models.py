"""What every model must obey, in both precisions."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.data.collate import collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.models import MODEL_CONFIGS
from mlip.nn.geometry import edge_vectors
from tests.conformance.configs import TINY
from tests.support.potentials import SHAPE, crystal, molecule, moved, outputs, potential_of
from tests.support.rotations import random_rotation
from tests.tolerances import tolerance

CASES = [(name, precision) for name in MODEL_CONFIGS for precision in ("float32", "float64")]
pytestmark = pytest.mark.parametrize(("name", "precision"), CASES)
ATOMS = 7
FAR = np.array([60.0, 0.0, 0.0])


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


def test_far_molecules_and_lone_atoms_add_up(name, precision):
    """Also an atom that has no neighbour, by itself and beside others."""
    one, other = structure(name), molecule(5, 5, TINY[name].elements)
    lone = Structure(one.numbers[:1], np.zeros((1, 3)))
    together = Structure(
        np.concatenate([part.numbers for part in (one, other, lone)]),
        np.concatenate([one.positions, other.positions + FAR, lone.positions - FAR]),
    )
    *parts, total = outputs(potential(name, precision), [one, other, lone, together])
    accepted = tolerance(precision)
    assert np.all(parts[2].forces == 0)
    expected = sum(part.energy for part in parts)
    np.testing.assert_allclose(total.energy, expected, rtol=0, atol=3 * accepted.energy)
    expected = np.concatenate([part.forces for part in parts])
    np.testing.assert_allclose(total.forces, expected, rtol=0, atol=accepted.forces)


def test_an_atom_crosses_the_cutoff(name, precision):
    """Energy, force and second derivative vanish with the only edge between two fragments."""
    near, inside, outside = (
        along_the_distance(name, precision, potential(name, precision).cutoff + change)
        for change in (-0.5, -2e-4, 2e-4)
    )
    scale = np.abs(near - outside)
    assert np.all(np.isfinite(near) & np.isfinite(inside) & (scale > 0))
    rounding = [tolerance(precision).energy, 0.0, 0.0]
    assert np.all(np.abs(inside - outside) <= np.maximum(0.02 * scale, rounding))


def along_the_distance(name, precision, distance):
    """Energy of two fragments and its first and second derivatives by their distance.

    The fragments are rigid and see each other by their nearest atoms alone. A third atom sees
    nobody.
    """
    left = np.array([[0.0, 0.0, 0.0], [-1.0, 0.6, 0.2], [-0.9, -0.7, 0.4]])
    right = np.array([[distance, 0.0, 0.0], [distance + 1.0, 0.3, -0.6]])
    positions = np.concatenate([left, right, [FAR]])
    step = np.zeros(positions.shape)
    step[3:5, 0] = 1.0  # the right fragment, along x
    numbers = np.resize(TINY[name].elements, len(positions)).astype(np.int32)
    return derivatives(name, precision, numbers, positions, step)


# An atom in the middle of a tetrahedron: there all vectors and tensors of degree 2 are zero.
TETRAHEDRON = 0.65 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]])


def test_an_atom_leaves_a_symmetric_place(name, precision):
    """No force where there is none by symmetry, and a curvature that lasts for some distance."""
    numbers = np.array([TINY[name].elements[0]] * 4 + [TINY[name].elements[1]], np.int32)
    step = np.zeros(TETRAHEDRON.shape)
    step[4] = [0.48, 0.6, 0.64]
    (_, force, at_it), (_, _, beside), (_, _, far) = (
        derivatives(name, precision, numbers, TETRAHEDRON + distance * step, step)
        for distance in (0.0, 1e-4, 3e-3)
    )
    assert abs(force) < tolerance(precision).forces
    assert abs(at_it) > 100 * tolerance(precision).forces
    assert abs(beside - at_it) < 1e-2 * abs(at_it)
    assert abs(far - at_it) < 0.2 * abs(at_it)


def derivatives(name, precision, numbers, positions, step):
    """Energy of up to seven atoms, its first and its second derivative along a step of each."""
    structure, chosen = Structure(numbers, positions), potential(name, precision)
    pairs = neighbor_list(structure, chosen.cutoff)
    shape = SHAPE._replace(graphs=1, nodes=8, blocks=8, width=4)
    graph = collate([structure], [pairs], chosen.elements, shape, chosen.dtype)
    moving = np.zeros((shape.nodes, 3), precision)
    moving[: len(step)] = step
    return np.array(derivatives_program(name, precision)(graph, moving))


@cache
def derivatives_program(name, precision):
    graphdef, state = nnx.split(potential(name, precision).model)

    @jax.jit
    def program(graph, step):
        def energy(t):
            vectors = edge_vectors(graph, graph.positions + t * step)
            return jnp.sum(nnx.merge(graphdef, state)(graph, vectors))

        def slope(t):
            value, first = jax.value_and_grad(energy)(t)
            return first, value

        (first, value), second = jax.value_and_grad(slope, has_aux=True)(jnp.zeros((), precision))
        return value, first, second

    return program


def test_everything_has_the_precision_asked_for(name, precision):
    weights = jax.tree.leaves(nnx.state(potential(name, precision).model, nnx.Param))
    assert {np.dtype(weight.dtype) for weight in weights} == {np.dtype(precision)}
    (output,) = outputs(potential(name, precision), [structure(name)])
    assert {np.dtype(value.dtype) for value in output} == {np.dtype(precision)}
