import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure


def brute_force(structure: Structure, cutoff: float) -> set[tuple[int, ...]]:
    """All (i, j, S) by enumeration of images."""
    ranges = [range(-4, 5) if periodic else (0,) for periodic in structure.pbc]
    found = set()
    for shift in itertools.product(*ranges):
        offset = np.array(shift) @ structure.cell
        vectors = structure.positions[None] + offset - structure.positions[:, None]
        distances = np.linalg.norm(vectors, axis=-1)
        for i, j in zip(*np.nonzero(distances < cutoff), strict=True):
            if i != j or any(shift):
                found.add((int(i), int(j), *shift))
    return found


@given(
    count=st.integers(1, 6),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cutoff=st.floats(1.5, 5.0),
    seed=st.integers(0, 100),
)
def test_agrees_with_enumeration(count, pbc, cutoff, seed):
    generator = np.random.default_rng(seed)
    cell = 3.0 * np.eye(3) + generator.uniform(-0.4, 0.4, size=(3, 3))
    structure = Structure(
        numbers=np.ones(count, int),
        positions=generator.uniform(size=(count, 3)) @ cell * 1.5,
        cell=cell if any(pbc) else np.zeros((3, 3)),
        pbc=np.array(pbc),
    )
    expected = brute_force(structure, cutoff)
    if any(np.linalg.norm(_vector(structure, pair)) < 1e-2 for pair in expected):
        return
    found = neighbor_list(structure, cutoff)
    pairs = zip(found.receivers, found.senders, found.shifts, strict=True)
    assert {(int(i), int(j), *map(int, shift)) for i, j, shift in pairs} == expected
    assert len(found.receivers) == len(expected)
    assert np.all(np.diff(found.receivers) >= 0)


def _vector(structure: Structure, pair: tuple[int, ...]) -> np.ndarray:
    i, j, *shift = pair
    return structure.positions[j] + np.array(shift) @ structure.cell - structure.positions[i]


def test_one_atom_has_no_neighbours():
    found = neighbor_list(Structure(np.ones(1, int), np.zeros((1, 3))), 5.0)
    assert len(found.receivers) == 0
    assert found.shifts.shape == (0, 3)


def test_a_slab_needs_no_vector_along_the_vacuum():
    structure = Structure(
        np.ones(1, int), np.zeros((1, 3)), np.diag([2.0, 2.0, 0.0]), np.array([True, True, False])
    )
    assert len(neighbor_list(structure, 2.5).receivers) == 4


@pytest.mark.parametrize("cutoff", [2.0, 7.0])
def test_a_cell_smaller_than_the_cutoff_sees_its_images(cutoff):
    structure = Structure(np.ones(1, int), np.zeros((1, 3)), 1.5 * np.eye(3), np.ones(3, bool))
    assert set(map(tuple, neighbor_list(structure, cutoff).shifts.tolist())) == {
        pair[2:] for pair in brute_force_images(cutoff / 1.5)
    }


def brute_force_images(radius: float) -> set[tuple[int, ...]]:
    reach = range(-int(radius), int(radius) + 1)
    return {
        (0, 0, *shift)
        for shift in itertools.product(reach, repeat=3)
        if 0 < np.linalg.norm(shift) < radius
    }
