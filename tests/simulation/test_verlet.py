"""The kept neighbour list finds exactly what a fresh search finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip.data.structure import Structure
from mlip.simulation.verlet import VerletList

CUTOFF = 3.0


def structure(positions: np.ndarray, cell: np.ndarray, pbc: list[bool]) -> Structure:
    numbers = np.full(len(positions), 18, np.int32)
    return Structure(numbers, positions.copy(), cell.copy(), np.array(pbc))


def assert_same_as_fresh(kept: VerletList, item: Structure) -> None:
    """Same pairs, same shifts, same order."""
    fresh = VerletList(kept.cutoff, skin=0.0)
    found, expected = kept.update(item), fresh.update(item)
    for part, wanted in zip(found.neighbors, expected.neighbors, strict=True):
        np.testing.assert_array_equal(part, wanted)
    assert found.shortest == pytest.approx(expected.shortest)


def random_structure(rng: np.random.Generator, length: float, pbc: list[bool]) -> Structure:
    cell = length * (np.eye(3) + 0.2 * rng.normal(size=(3, 3)))
    if not any(pbc):
        cell = np.zeros((3, 3))
        return structure(length * rng.random((12, 3)), cell, pbc)
    cell[~np.array(pbc)] *= rng.integers(2)  # non-periodic vectors may be missing
    box = np.where(cell.any(axis=1)[:, None], cell, length * np.eye(3))
    return structure(rng.random((12, 3)) @ box, cell, pbc)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    pbc=st.lists(st.booleans(), min_size=3, max_size=3),
    length=st.sampled_from([2.2, 4.0, 9.0]),
    skin=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_walk_under_strain_wrapping_and_drift(seed, pbc, length, skin):
    rng = np.random.default_rng(seed)
    item = random_structure(rng, length, pbc)
    kept = VerletList(CUTOFF, skin)
    for _ in range(12):
        assert_same_as_fresh(kept, item)
        strain = np.eye(3) + 0.004 * rng.normal(size=(3, 3))
        positions = item.positions @ strain + 0.04 * rng.normal(size=item.positions.shape)
        positions += 0.3 * rng.normal(size=3)
        cell = item.cell @ strain
        images = rng.integers(-2, 3, size=positions.shape) * (rng.random((len(positions), 1)) < 0.3)
        positions += (images * item.pbc) @ cell
        item = structure(positions, cell, pbc)


def test_small_moves_wraps_drift_and_strain_need_no_search():
    rng = np.random.default_rng(0)
    cell, pbc = 8.0 * np.eye(3), [True, True, False]
    start = 8.0 * rng.random((20, 3))
    kept = VerletList(CUTOFF, skin=1.0)
    kept.update(structure(start, cell, pbc))
    strain = np.eye(3) + 0.01 * rng.normal(size=(3, 3))
    for positions, box in (
        (start + 0.2 * rng.uniform(-1, 1, size=start.shape), cell),
        (start + np.rint(rng.normal(size=start.shape)) * [8.0, 8.0, 0.0], cell),
        (start + np.array([100.0, -30.0, 55.0]), cell),
        (start @ strain, cell @ strain),
    ):
        assert_same_as_fresh(kept, structure(positions, box, pbc))
    assert kept.searches == 1


def test_a_search_is_due_when_an_atom_moved_by_half_the_skin():
    start = np.array([[0.0, 0, 0], [3.9, 0, 0], [0, 3.9, 0], [3.9, 3.9, 0]])
    kept = VerletList(CUTOFF, skin=1.0)
    still, free = np.zeros((3, 3)), [False] * 3
    kept.update(structure(start, still, free))
    for distance, searches in ((0.6, 1), (0.7, 2)):  # less the mean: 3/4 of it
        moved = start.copy()
        moved[0, 0] += distance
        kept.update(structure(moved, still, free))
        assert kept.searches == searches


def test_compression_brings_in_pairs_from_beyond_the_skin():
    kept = VerletList(CUTOFF, skin=0.5)
    start, cell = np.array([[0.0, 0, 0], [3.6, 0, 0]]), np.diag([20.0, 20, 20])
    assert len(kept.update(structure(start, cell, [True] * 3)).neighbors.receivers) == 0
    found = kept.update(structure(start * 0.8, cell * 0.8, [True] * 3))
    assert len(found.neighbors.receivers) == 2


def test_changes_of_atom_count_and_periodicity():
    rng = np.random.default_rng(3)
    cell = 5.0 * np.eye(3)
    positions = 5.0 * rng.random((9, 3))
    kept = VerletList(CUTOFF, skin=0.5)
    for count, pbc in (
        (9, [True] * 3),
        (8, [True] * 3),
        (8, [True, False, True]),
        (1, [False] * 3),
    ):
        assert_same_as_fresh(kept, structure(positions[:count], cell, pbc))
