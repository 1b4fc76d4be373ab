import numpy as np
import pytest

from mlip.data.collate import BatchShape
from mlip.data.pipeline import Batches
from mlip.errors import MlipError

E0 = {1: -1.0, 8: -2.0}


@pytest.fixture
def structures(make_cluster):
    return [make_cluster(3 + seed % 7, seed, (seed % 3 == 0,) * 3) for seed in range(23)]


def make(structures, **changes) -> Batches:
    options = {"cutoff": 3.0, "elements": (1, 8), "e0": E0, "batch_size": 4, "seed": 7}
    return Batches(structures, **(options | changes))


def order(batches, epoch, start=0):
    return [tuple(batch.indices.tolist()) for batch in batches.epoch(epoch, start)]


def test_each_structure_occurs_once_per_epoch(structures):
    batches = make(structures)
    assert len(batches) == 6
    for epoch in range(3):
        found = order(batches, epoch)
        assert len(found) == len(batches)
        assert sorted(sum(found, ())) == list(range(23))


def test_epochs_are_repeatable_and_differ(structures):
    first, second = make(structures), make(structures)
    assert order(first, 4) == order(second, 4)
    assert order(first, 4) != order(first, 5)
    assert order(make(structures, seed=8), 4) != order(first, 4)


def test_resuming_in_the_middle_gives_the_same_batches(structures):
    batches = make(structures)
    whole = list(batches.epoch(2))
    resumed = list(batches.epoch(2, start=4))
    assert len(resumed) == 2
    for expected, found in zip(whole[4:], resumed, strict=True):
        assert expected.identifiers == found.identifiers
        for field in ("positions", "senders", "edge_mask"):
            left, right = getattr(expected.graph, field), getattr(found.graph, field)
            np.testing.assert_array_equal(left, right)


def test_without_shuffling_all_epochs_are_equal(structures):
    batches = make(structures, shuffle=False)
    assert order(batches, 0) == order(batches, 1)


def test_batches_have_the_announced_shapes_and_content(structures):
    batches = make(structures, dtype="float64")
    slots = edges = 0
    for batch in batches.epoch(0):
        blocks, width = batch.graph.senders.shape
        shape = BatchShape(batch.graph.num_graphs, batch.graph.num_nodes, blocks, width)
        assert shape in batches.shapes
        slots += blocks * width
        edges += batch.graph.edge_mask.sum()
        assert batch.identifiers == [structures[i].identifier for i in batch.indices]
        for g, i in enumerate(batch.indices):
            inside = batch.graph.node_mask & (batch.graph.node_graph == g)
            np.testing.assert_array_equal(batch.labels.forces[inside], structures[i].forces)
            total = batch.labels.energy[g] + sum(E0[int(z)] for z in structures[i].numbers)
            assert total == pytest.approx(structures[i].energy, abs=1e-12)
    assert batches.padding_share == pytest.approx(1 - edges / slots)
    assert str(len(structures)) in repr(batches)


@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_the_precision_is_as_asked(structures, dtype):
    batch = next(make(structures, dtype=dtype).epoch(0))
    assert batch.graph.positions.dtype == batch.labels.energy.dtype == np.dtype(dtype)


def test_shapes_can_be_shared_between_subsets(structures):
    train = make(structures)
    valid = make(structures[:9], shapes=train.shapes, shuffle=False)
    assert valid.shapes == train.shapes
    assert sorted(sum(order(valid, 0), ())) == list(range(9))
    with pytest.raises(MlipError, match="too small"):
        make(structures, batch_size=8, shapes=train.shapes)


def test_unusable_structures_are_refused_at_once(structures):
    with pytest.raises(MlipError, match="element O is not known"):
        make(structures, elements=(1,))
    with pytest.raises(MlipError, match="no structures"):
        make([])
