"""Blocks of edges reproduce the neighbour list exactly, whatever the sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlip.data.collate import BatchShape, collate, collate_labels, count_blocks
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError

ELEMENTS = (1, 6, 8)


def random_structure(count: int, seed: int, periodic: bool) -> Structure:
    generator = np.random.default_rng(seed)
    cell = 6.0 * np.eye(3)
    return Structure(
        numbers=generator.choice(ELEMENTS, size=count),
        positions=generator.uniform(0, 6, size=(count, 3)),
        cell=cell if periodic else np.zeros((3, 3)),
        pbc=np.full(3, periodic),
        energy=float(generator.normal()),
        forces=generator.normal(size=(count, 3)),
        charge=float(seed % 3 - 1),
        identifier=f"random#{seed}",
    )


structures = st.lists(
    st.builds(random_structure, st.integers(1, 9), st.integers(0, 200), st.booleans()),
    min_size=1,
    max_size=4,
)


def pack(found: list[Structure], width: int, spare: int):
    pairs = [neighbor_list(s, 3.5) for s in found]
    blocks = sum(count_blocks(p, len(s), width) for s, p in zip(found, pairs, strict=True))
    shape = BatchShape(len(found) + spare, sum(map(len, found)) + spare, blocks + spare, width)
    return pairs, shape, collate(found, pairs, ELEMENTS, shape, np.float64)


@given(found=structures, width=st.integers(1, 12), spare=st.integers(0, 3))
def test_blocks_hold_exactly_the_edges(found, width, spare):
    pairs, shape, graph = pack(found, width, spare)
    rows, columns = np.nonzero(graph.edge_mask)
    edges = np.column_stack(
        [graph.receivers[rows], graph.senders[rows, columns], graph.shifts[rows, columns]]
    )
    starts = np.cumsum([0, *(len(s) for s in found)])
    expected = np.concatenate(
        [
            np.column_stack([p.receivers + start, p.senders + start, p.shifts])
            for p, start in zip(pairs, starts, strict=False)
        ]
    )
    np.testing.assert_array_equal(edges, expected)
    assert graph.senders.shape == (shape.blocks, width)
    assert np.all(np.diff(graph.receivers) >= 0)
    assert np.all(np.diff(graph.node_graph) >= 0)


@given(found=structures, width=st.integers(1, 12), spare=st.integers(0, 3))
def test_edge_vectors_and_lengths_survive(found, width, spare):
    pairs, _, graph = pack(found, width, spare)
    rows, columns = np.nonzero(graph.edge_mask)
    receivers = graph.receivers[rows]
    cells = graph.cell[graph.node_graph[receivers]]
    vectors = (
        graph.positions[graph.senders[rows, columns]]
        + np.einsum("ei,eij->ej", graph.shifts[rows, columns], cells)
        - graph.positions[receivers]
    )
    expected = np.concatenate(
        [
            s.positions[p.senders] + p.shifts @ s.cell - s.positions[p.receivers]
            for s, p in zip(found, pairs, strict=True)
        ]
    )
    np.testing.assert_allclose(vectors, expected, atol=1e-12)


@given(found=structures, seed=st.integers(0, 100))
def test_the_order_of_structures_does_not_change_their_content(found, seed):
    order = np.random.default_rng(seed).permutation(len(found))
    _, _, graph = pack(found, 4, 1)
    _, _, shuffled = pack([found[i] for i in order], 4, 1)
    for new, old in enumerate(order):
        for field in ("positions", "species"):
            left = getattr(graph, field)[graph.node_mask & (graph.node_graph == old)]
            right = getattr(shuffled, field)[shuffled.node_mask & (shuffled.node_graph == new)]
            np.testing.assert_array_equal(left, right)
        assert graph.charge[old] == shuffled.charge[new]
        assert graph.num_atoms[old] == shuffled.num_atoms[new]


def test_single_precision_keeps_distances_far_from_the_origin():
    near = random_structure(5, 3, periodic=False)
    far = Structure(near.numbers, near.positions + 1e5)
    shape = BatchShape(1, 5, 40, 4)
    positions = [
        collate([s], [neighbor_list(s, 3.5)], ELEMENTS, shape).positions for s in (near, far)
    ]
    np.testing.assert_allclose(positions[0], positions[1], atol=1e-6)


def test_labels_carry_interaction_energies_and_zero_weight_where_missing():
    full = random_structure(3, 0, periodic=False)
    bare = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [1, 0, 0]]), weight=2.0)
    e0 = {1: -10.0, 6: -20.0, 8: -30.0}
    labels = collate_labels([full, bare], e0, BatchShape(3, 8, 8, 4), np.float64)
    expected = full.energy - sum(e0[int(z)] for z in full.numbers)
    assert labels.energy[0] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(labels.energy_weight, [1, 0, 0])
    np.testing.assert_array_equal(labels.forces_weight, [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(labels.forces[:3], full.forces)
    assert not labels.stress_weight.any()


@pytest.mark.parametrize("shape", [(1, 9, 99, 4), (2, 5, 99, 4), (2, 9, 1, 4)])
def test_a_shape_too_small_is_refused(shape):
    found = [random_structure(3, seed, periodic=True) for seed in range(2)]
    with pytest.raises(MlipError, match="does not fit"):
        collate(found, [neighbor_list(s, 3.5) for s in found], ELEMENTS, BatchShape(*shape))
