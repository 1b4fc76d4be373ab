"""Energies, forces and stresses: exact derivatives, invariances, smoothness, padding, buckets."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip.data.collate import collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError
from tests.support.potentials import (
    E0,
    SHAPE,
    crystal,
    mace_config,
    molecule,
    moved,
    outputs,
    potential_of,
)
from tests.support.rotations import random_rotation
from tests.tolerances import FLOAT32, FLOAT64

KINDS = {
    "plain": mace_config(interaction="plain", hidden_lmax=0, correlation=3),
    "residual": mace_config(),
    "density": mace_config(
        first_interaction="residual", interaction="density", hidden_lmax=0, lmax=2
    ),
    "density_residual": mace_config(
        first_interaction="density",
        interaction="density_residual",
        distance_transform="agnesi",
        zbl=True,
    ),
}
# Fourth-order central differences.
OFFSETS = np.array([-2.0, -1.0, 1.0, 2.0])
COEFFICIENTS = np.array([1.0, -8.0, 8.0, -1.0]) / 12.0
STEP = 1e-3


@cache
def potential(kind="residual"):
    return potential_of(KINDS[kind])


def energies(results):
    return np.array([result.energy for result in results])


def assert_same(results, expected, tolerance=FLOAT64):
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(one.energy, other.energy, rtol=0, atol=tolerance.energy)
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=tolerance.forces)
        np.testing.assert_allclose(one.stress, other.stress, rtol=0, atol=tolerance.stress)


def derivatives(kind, displaced):
    """dE along each of several paths; four structures, one for each offset, belong to a path."""
    values = energies(outputs(potential(kind), displaced)).reshape(-1, len(OFFSETS))
    return values @ COEFFICIENTS / STEP


@pytest.mark.parametrize("kind", KINDS)
def test_forces_are_minus_the_gradient(kind):
    structure = molecule(0, atoms=4)
    displaced = [
        moved(structure, structure.positions + offset * STEP * direction.reshape(-1, 3))
        for direction in np.eye(12)
        for offset in OFFSETS
    ]
    expected = -derivatives(kind, displaced).reshape(-1, 3)
    forces = outputs(potential(kind), [structure])[0].forces
    atol = FLOAT64.finite_difference * np.abs(forces).max()
    np.testing.assert_allclose(forces, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_stress_is_the_strain_derivative(kind):
    """In a sheared cell shorter than the cutoff, periodic along three or two vectors."""
    structures = [crystal(), crystal(pbc=(True, True, False))]
    strains = [(a, b) for a in range(3) for b in range(a, 3)]
    displaced = []
    for structure in structures:
        for a, b in strains:
            for offset in OFFSETS:
                strain = np.zeros((3, 3))
                strain[a, b] = offset * STEP
                deform = np.eye(3) + 0.5 * (strain + strain.T)
                displaced.append(
                    moved(structure, structure.positions @ deform, structure.cell @ deform)
                )
    expected = derivatives(kind, displaced).reshape(len(structures), -1)
    results = outputs(potential(kind), structures)
    for structure, result, virial in zip(structures, results, expected, strict=True):
        volume = abs(np.linalg.det(structure.cell))
        stress = np.array([result.stress[a, b] for a, b in strains])
        atol = FLOAT64.finite_difference * np.abs(stress).max()
        np.testing.assert_allclose(stress, virial / volume, rtol=0, atol=atol)
        np.testing.assert_array_equal(result.stress, result.stress.T)


@pytest.mark.parametrize("kind", KINDS)
def test_invariances(kind):
    """Rotation, inversion, permutation, translation, wrapping and supercells, in one batch."""
    one, solid = molecule(1), crystal()
    rotation, order = random_rotation(7), np.array([3, 0, 4, 2, 1])
    shift = np.array([0.3, -1.1, 0.7])
    results = outputs(
        potential(kind),
        [
            one,
            solid,
            moved(one, one.positions @ rotation.T),
            moved(solid, solid.positions @ rotation.T, solid.cell @ rotation.T),
            moved(one, -one.positions),
            moved(solid, -solid.positions, -solid.cell),
            Structure(one.numbers[order], one.positions[order]),
            moved(one, one.positions + shift),
            moved(solid, solid.positions + shift),
            moved(solid, solid.positions + [[0, 0, 0], [2, -1, 1]] @ solid.cell),
            supercell(solid, (2, 1, 3)),
        ],
    )
    a, b = results[:2]
    rotated = [a._replace(forces=a.forces @ rotation.T), turned(b, rotation)]
    inverted = [a._replace(forces=-a.forces), b._replace(forces=-b.forces)]
    permuted = a._replace(node_energy=a.node_energy[order], forces=a.forces[order])
    large = b._replace(energy=6 * b.energy, forces=np.tile(b.forces, (6, 1)))
    assert_same(results[2:], [*rotated, *inverted, permuted, a, b, b, large])
    assert np.abs(a.forces).max() > 0.01
    np.testing.assert_allclose(a.forces.sum(axis=0), 0.0, atol=FLOAT64.forces)


def supercell(structure, repeats):
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=True)
    return Structure.from_atoms(atoms.repeat(repeats))


def turned(result, rotation):
    stress = rotation @ result.stress @ rotation.T
    return result._replace(forces=result.forces @ rotation.T, stress=stress)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), atoms=st.integers(1, 8), improper=st.booleans())
def test_any_molecule_turned_and_shifted(seed, atoms, improper):
    matrix = random_rotation(seed) * (-1 if improper else 1)
    structure = molecule(seed, atoms)
    shift = np.random.default_rng(seed).uniform(-50, 50, size=3)
    plain, other = outputs(
        potential(), [structure, moved(structure, structure.positions @ matrix.T + shift)]
    )
    assert_same([other], [plain._replace(forces=plain.forces @ matrix.T)])


@pytest.mark.parametrize("kind", KINDS)
def test_smooth_where_an_atom_crosses_the_cutoff(kind):
    """Energy and force go to their outside values as δ³ and δ² or faster, hence E″ is finite."""
    cutoff = KINDS[kind].cutoff

    def trimer(r):
        positions = np.array([[0.0, 0.0, 0.0], [-0.4, 1.1, 0.3], [r, 0.0, 0.0]])
        return Structure(np.array([8, 6, 1], np.int32), positions)

    wide, narrow = 0.1, 0.01
    inside_wide, inside, at, outside = outputs(
        potential(kind), [trimer(cutoff + delta) for delta in (-wide, -narrow, 0.0, 2 * wide)]
    )
    assert_same([at], [outside])
    np.testing.assert_array_equal(outside.forces[2], 0.0)
    for field, order in (("energy", 3), ("forces", 2)):
        far, near = (
            np.abs(getattr(result, field) - getattr(outside, field)).max()
            for result in (inside_wide, inside)
        )
        assert far > 0
        assert near < 1.5 * far * (narrow / wide) ** order


@pytest.mark.parametrize("kind", KINDS)
def test_edges_beyond_the_cutoff_change_nothing(kind):
    """As a neighbour list with a skin has them."""
    structure, chosen = molecule(3, atoms=6), potential(kind)
    structure = moved(structure, 1.7 * structure.positions)
    pairs = neighbor_list(structure, chosen.cutoff + 1.0)
    assert len(pairs.senders) > len(neighbor_list(structure, chosen.cutoff).senders)
    graph = collate([structure], [pairs], chosen.elements, SHAPE, np.float64)
    more = chosen.evaluate_graph(graph)
    expected = outputs(chosen, [structure])[0]
    np.testing.assert_allclose(more.energy[0], expected.energy, rtol=0, atol=FLOAT64.energy)
    np.testing.assert_allclose(more.forces[:6], expected.forces, rtol=0, atol=FLOAT64.forces)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_without_neighbours(kind):
    one, atom = molecule(2), Structure(np.array([8], np.int32), np.zeros((1, 3)))
    together = Structure(
        np.append(one.numbers, atom.numbers), np.concatenate([one.positions, [[30.0, 0.0, 0.0]]])
    )
    a, b, both = outputs(potential(kind), [one, atom, together])
    np.testing.assert_allclose(both.energy, a.energy + b.energy, rtol=0, atol=FLOAT64.energy)
    np.testing.assert_array_equal(b.forces, 0.0)
    np.testing.assert_array_equal(both.forces[-1], 0.0)
    np.testing.assert_allclose(both.forces[:-1], a.forces, rtol=0, atol=FLOAT64.forces)
    if KINDS[kind].first_interaction != "residual":
        # Nothing is added to the shift when no message arrives.
        np.testing.assert_allclose(b.energy, KINDS[kind].shift, rtol=0, atol=FLOAT64.energy)


def test_predict_adds_e0_and_keeps_the_order():
    structures = [molecule(0, 1), molecule(1, 6), crystal(), molecule(2, 3)]
    chosen = potential("plain")
    predictions = chosen.predict(structures, batch_size=4)
    for structure, prediction, output in zip(
        structures, predictions, outputs(chosen, structures), strict=True
    ):
        isolated = np.array([E0[z] for z in structure.numbers.tolist()])
        np.testing.assert_allclose(
            prediction.energy, output.energy + isolated.sum(), rtol=0, atol=FLOAT64.energy
        )
        np.testing.assert_allclose(
            prediction.energies, output.node_energy + isolated, rtol=0, atol=FLOAT64.energy
        )
        np.testing.assert_allclose(prediction.forces, output.forces, atol=FLOAT64.forces)
    assert [p.stress is None for p in predictions] == [True, True, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_other_structures_in_the_batch_do_not_matter(kind):
    structures = [molecule(4), crystal(), molecule(5, 3)]
    together = outputs(potential(kind), structures)
    others = [molecule(k, 8) for k in range(10, 20)]
    assert_same(outputs(potential(kind), [*others, *structures])[-3:], together)
    assert_same(outputs(potential(kind), structures[:1]), together[:1])


def test_single_precision_agrees_with_double():
    structures = [molecule(6, 8), crystal(), molecule(7, 4)]
    double = potential()
    single = potential_of(KINDS["residual"], "float32").with_state(
        jax.tree.map(lambda x: x.astype(jnp.float32), nnx.state(double.model))
    )
    results = outputs(single, structures)
    assert all(array.dtype == np.float32 for array in results[0] if np.ndim(array))
    assert_same(results, outputs(double, structures), FLOAT32)


def test_predict_compiles_once_for_each_bucket():
    chosen = potential_of(mace_config(hidden_lmax=0, lmax=0, correlation=1, num_layers=1))
    alike = [molecule(k, 6) for k in range(7)]
    seven = chosen.predict(alike, batch_size=3)  # two full batches and a remainder of one
    assert len(chosen.compilations) == 1
    assert chosen.compilations[0].shape.graphs == 3
    again = chosen.predict(alike[-2:], batch_size=3)
    assert len(chosen.compilations) == 1
    np.testing.assert_allclose(
        [p.energy for p in again], [p.energy for p in seven[-2:]], rtol=0, atol=FLOAT64.energy
    )
    chosen.predict([supercell(crystal(), (3, 2, 2))] * 3, batch_size=3)
    assert len(chosen.compilations) == 2


def test_unknown_element():
    with pytest.raises(MlipError, match=r"structure 1: element Fe is not known.*H C O"):
        potential("plain").predict([molecule(0), Atoms("OFe", [[0, 0, 0], [0, 0, 1.5]])])


def test_missing_e0():
    from mlip.potential import Potential

    with pytest.raises(MlipError, match=r"no E0 .*\[6\]"):
        Potential(potential("plain").model, elements=(1, 6), e0={1: 0.0})
