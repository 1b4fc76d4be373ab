import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlip.data.sources.registry import open_source
from mlip.data.splits import joined, split, structure_keys, without_duplicates
from mlip.data.structure import Structure
from mlip.errors import MlipError


def atom(place: float, index: int = 0) -> Structure:
    return Structure(np.ones(1, int), np.array([[place, 0.0, 0.0]]), identifier=f"a#{index}")


@given(
    places=st.lists(st.integers(0, 15), min_size=2, max_size=30),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_split_is_complete_disjoint_and_repeatable(places, seed, data):
    structures = [atom(float(place), i) for i, place in enumerate(places)]
    count = data.draw(st.integers(1, len(structures) - 1))
    try:
        train, valid = split(structures, count, seed)
    except MlipError:
        multiplicity = max(places.count(place) for place in places)
        assert count + multiplicity > len(structures)
        return
    names = [s.identifier for s in train], [s.identifier for s in valid]
    assert sorted(names[0] + names[1]) == sorted(s.identifier for s in structures)
    assert not {structure_keys(s) for s in train} & {structure_keys(s) for s in valid}
    assert len(valid) >= count
    if len(set(places)) == len(places):
        assert len(valid) == count
    again = split(structures, count, seed)
    assert ([s.identifier for s in again[0]], [s.identifier for s in again[1]]) == names


def test_the_order_of_the_file_is_kept():
    structures = [atom(float(i), i) for i in range(50)]
    for part in split(structures, 10, 0):
        assert [s.positions[0, 0] for s in part] == sorted(s.positions[0, 0] for s in part)


def test_another_seed_is_another_split():
    structures = [atom(float(i), i) for i in range(50)]
    chosen = {tuple(s.identifier for s in split(structures, 10, seed)[1]) for seed in range(5)}
    assert len(chosen) == 5


@pytest.mark.parametrize("count", [0, 5, 9])
def test_an_impossible_count_is_refused(count):
    with pytest.raises(MlipError, match="choose between 1 and 4"):
        split([atom(float(i)) for i in range(5)], count, 0)


def test_labels_and_rounding_noise_do_not_matter_for_duplicates():
    one = atom(1.0)
    for same in (dataclasses.replace(one, energy=1.0), atom(1.0 + 1e-9)):
        assert not without_duplicates([same], [one])
    others = [atom(1.002), dataclasses.replace(one, numbers=np.array([2]))]
    assert without_duplicates(others, [one]) == others


def test_the_same_frames_are_recognised_in_another_format(root):
    """Coordinates as floats of 32 bits, and with eight decimals."""
    folder = root / "datasets" / "oc20_mini"
    graphs, texts = open_source(folder / "lmdb/train"), open_source(folder / "s2ef/train")
    one, other = list(graphs), list(texts)
    assert any((a.positions != b.positions).any() for a, b in zip(one, other, strict=True))
    assert len(one) == len(other) == 240
    assert not without_duplicates(one, other)
    apart = without_duplicates(list(open_source(folder / "lmdb/val_id")), other)
    assert len(apart) == 50
    for index in range(0, 240, 7):
        assert graphs.trajectory(index) == texts.trajectory(index)


def test_a_single_displaced_atom_is_another_structure(root):
    structure = open_source(root / "datasets/oc20_mini/s2ef/train")[0]
    moved = []
    for atom, axis in np.ndindex(structure.positions.shape):
        positions = structure.positions.copy()
        positions[atom, axis] += 0.005
        moved.append(dataclasses.replace(structure, positions=positions))
    assert without_duplicates(moved, [structure]) == moved
    keys = np.array([structure_keys(s) for s in moved], np.uint64)
    assert len(set(joined(np.arange(len(moved)), keys))) == len(moved)


def test_duplicates_of_duplicates_are_joined():
    keys = np.array([[1, 10], [2, 10], [2, 11], [3, 12], [4, 11]], np.uint64)
    assert joined(np.array([5, 4, 3, 2, 1]), keys).tolist() == [1, 1, 1, 2, 1]


def test_duplicates_are_left_out():
    left = without_duplicates([atom(1.0), atom(2.0), atom(3.0)], [atom(2.0)])
    assert [s.positions[0, 0] for s in left] == [1.0, 3.0]
