import dataclasses
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mlip.data.frames import Frames, Part
from mlip.data.streaming import StreamedBatches
from mlip.data.windows import Job, Shard
from mlip.errors import MlipError
from tests.support.sources import E0, ELEMENTS, MadeUp, PickledLmdb, cluster, write_pickled_lmdb

SIZE, BATCH = 150, 4  # 38 batches: a whole window of 32 and a shorter one


@pytest.fixture(scope="module")
def frames():
    return Frames([Part(MadeUp(SIZE), range(SIZE))])


def make(frames, **changes) -> StreamedBatches:
    options = {"cutoff": 3.0, "elements": ELEMENTS, "e0": E0, "batch_size": BATCH, "seed": 7}
    return StreamedBatches(
        frames, frames.sample(60).structures, **(options | {"workers": 0} | changes)
    )


def names(batches):
    return [tuple(batch.identifiers) for batch in batches]


def contents(batches):
    return [pickle.dumps((vars(batch.graph), vars(batch.labels))) for batch in batches]


def left_out(source, frames):
    """The faults of a source's records in an epoch that goes on without them."""
    made = Frames([Part(source, range(SIZE))], skip_bad=True)
    batches = StreamedBatches(
        made, frames.sample(30).structures, cutoff=3.0, elements=ELEMENTS, e0=E0,
        batch_size=BATCH, workers=0,
    )  # fmt: skip
    return [fault for batch in batches.epoch(0) for fault in batch.skipped]


def test_each_frame_occurs_once_per_epoch_in_batches_of_one_size(frames):
    batches = make(frames)
    assert len(batches) == 38
    for epoch in range(2):
        found = list(batches.epoch(epoch))
        assert [len(batch.indices) for batch in found[:32]] == [BATCH] * 32
        assert {len(batch.indices) for batch in found[32:]} <= {BATCH, BATCH - 1}
        assert sorted(np.concatenate([batch.indices for batch in found])) == list(range(SIZE))
        for batch in found[:3]:
            assert batch.identifiers == [f"made_up#{index}" for index in batch.indices]


def test_batches_hold_what_the_frames_hold(frames):
    batch = next(make(frames, dtype="float64").epoch(0))
    for g, index in enumerate(batch.indices):
        inside = batch.graph.node_mask & (batch.graph.node_graph == g)
        expected = cluster(int(index))
        np.testing.assert_array_equal(batch.labels.forces[inside], expected.forces)
        total = batch.labels.energy[g] + sum(E0[int(z)] for z in expected.numbers)
        assert total == pytest.approx(expected.energy, abs=1e-10)


def test_epochs_are_repeatable_and_differ(frames):
    first, second = make(frames), make(frames)
    assert names(first.epoch(4)) == names(second.epoch(4))
    assert names(first.epoch(4)) != names(first.epoch(5))
    assert names(make(frames, seed=8).epoch(4)) != names(first.epoch(4))
    fixed = make(frames, shuffle=False)
    assert names(fixed.epoch(0)) == names(fixed.epoch(1))


@pytest.mark.slow
def test_the_batches_are_bitwise_the_same_for_any_number_of_workers(frames):
    expected = contents(make(frames).epoch(1))
    for workers in (1, 2):
        batches = make(frames, workers=workers)
        assert contents(batches.epoch(1)) == expected
        # In the middle of a window, and in the next one.
        assert contents(batches.epoch(1, start=20)) == expected[20:]


def test_a_stream_runs_on_from_one_epoch_into_the_next(frames):
    batches = make(frames)
    stream = batches.stream(2, 35)
    found = [next(stream) for _ in range(5)]
    stream.close()
    assert [ends for _, ends in found] == [False, False, True, False, False]
    expected = names(batches.epoch(2))[35:] + names(batches.epoch(3))[:2]
    assert names(batch for batch, _ in found) == expected


def test_records_that_are_left_out_make_batches_smaller_not_fewer():
    bad = (3, 50, 51, 52)
    frames = Frames([Part(MadeUp(SIZE, bad=bad), range(SIZE))], skip_bad=True)
    found = list(make(frames).epoch(0))
    assert len(found) == 38
    used = Counter(name for batch in found for name in batch.identifiers)
    assert set(used) == {f"made_up#{i}" for i in range(SIZE) if i not in bad}
    assert set(used.values()) == {1}
    skipped = sorted(fault.partition(":")[0] for batch in found for fault in batch.skipped)
    assert skipped == sorted(f"made_up#{i}" for i in bad)
    # They are told once: not again by a run that resumes within the window.
    assert not any(batch.skipped for batch in list(make(frames).epoch(0, start=1))[:31])


def test_a_batch_is_never_empty():
    frames = Frames([Part(MadeUp(40, bad=(3, 5, 7)), range(40))], skip_bad=True)
    found = list(make(frames, batch_size=1).epoch(0))
    assert [len(batch.indices) for batch in found] == [1] * 40
    assert len({name for batch in found for name in batch.identifiers}) == 37


def test_a_last_window_without_a_usable_frame_borrows_from_the_one_before():
    size = 32 * BATCH + 1
    whole = Frames([Part(MadeUp(size), range(size))])
    (alone,) = list(make(whole).epoch(0))[-1].indices.tolist()
    frames = Frames([Part(MadeUp(size, bad=(alone,)), range(size))], skip_bad=True)
    *others, last = make(frames).epoch(0)
    assert len(others) == 32
    assert [len(last.indices), len(last.skipped)] == [1, 1]
    assert last.skipped[0].startswith(f"made_up#{alone}: ")
    assert set(last.identifiers) < {name for batch in others for name in batch.identifiers}


def test_a_window_of_damaged_records_is_an_error():
    frames = Frames([Part(MadeUp(20, bad=tuple(range(20))), range(20))], skip_bad=True)
    batches = StreamedBatches(
        frames, list(MadeUp(20)), cutoff=3.0, elements=ELEMENTS, e0=E0, batch_size=4, workers=0
    )
    with pytest.raises(MlipError, match="all 20 records of a window of the data are unusable"):
        next(batches.epoch(0))


def test_atoms_on_one_spot_make_a_record_unusable(frames):
    class Collapsed(MadeUp):
        def __getitem__(self, index):
            structure = super().__getitem__(index)
            positions = structure.positions * (0 if index == 2 else 1)
            return dataclasses.replace(structure, positions=positions)

    (fault,) = left_out(Collapsed(SIZE), frames)
    assert fault.startswith("made_up#2: atoms 0 and")


def test_fixed_atoms_are_masked_on_request():
    class Held(MadeUp):
        def __getitem__(self, index):
            structure = super().__getitem__(index)
            return dataclasses.replace(structure, fixed=np.arange(len(structure)) == 0)

    frames = Frames([Part(Held(20), range(20))])
    for mask_fixed, lost in ((False, 0), (True, BATCH)):
        batch = next(make(frames, mask_fixed=mask_fixed).epoch(0))
        weights = batch.labels.forces_weight[batch.graph.node_mask]
        assert np.sum(weights == 0) == lost


def test_several_processes_share_every_window(frames):
    whole = make(frames)
    shares = [make(frames, shard=Shard(index, 2)) for index in range(2)]
    assert shares[0].shapes == shares[1].shapes
    assert {len(share) for share in shares} == {len(whole)}
    windows = [[list(share.epoch(0))[i : i + 32] for share in (whole, *shares)] for i in (0, 32)]
    for one, left, right in windows:
        together = [name for batch in (*left, *right) for name in batch.identifiers]
        assert sorted(together) == sorted(name for batch in one for name in batch.identifiers)
    assert {len(batch.indices) for batch in windows[0][1]} == {BATCH // 2}
    with pytest.raises(MlipError, match="cannot be shared by 3 processes"):
        make(frames, shard=Shard(0, 3))


def test_a_share_of_the_last_window_is_never_empty():
    frames = Frames([Part(MadeUp(33), range(33))])
    batches = make(frames, batch_size=2, shard=Shard(1, 2))
    found = list(batches.epoch(0))
    assert len(found) == len(batches) == 17
    assert all(len(batch.indices) for batch in found)


def test_an_element_outside_of_the_sample_is_named_with_the_way_out(frames):
    batches = make(frames, elements=(1, 8))
    with pytest.raises(MlipError, match=r"element O is not known .* name them all in dataset\.e0"):
        list(dataclasses.replace(batches._windows, elements=(1,)).make(Job(0, 0, 0)))


def test_an_element_outside_of_the_sample_is_left_out_on_request(frames):
    class Rare(MadeUp):
        def __getitem__(self, index):
            structure = super().__getitem__(index)
            numbers = np.full_like(structure.numbers, 16) if index == 2 else structure.numbers
            return dataclasses.replace(structure, numbers=numbers)

    (fault,) = left_out(Rare(SIZE), frames)
    assert fault.startswith("made_up#2: element S is not known")


def test_shapes_and_padding_are_announced(frames):
    batches = make(frames)
    for batch in batches.epoch(0):
        blocks, width = batch.graph.senders.shape
        assert (batch.graph.num_graphs, batch.graph.num_nodes, blocks, width) in batches.shapes
    assert 0 < batches.padding_share < 1
    assert "150 structures in 38 batches" in repr(batches)


def test_an_lmdb_is_read_by_worker_processes(tmp_path):
    write_pickled_lmdb(tmp_path / "made.lmdb", 20)
    frames = Frames([Part(PickledLmdb(tmp_path / "made.lmdb"), range(20))])
    found = list(make(frames, workers=1).epoch(0))
    assert sorted(np.concatenate([batch.indices for batch in found])) == list(range(20))


def test_what_a_worker_imports_is_not_jax():
    code = "import sys, mlip.data.worker; print('jax' in sys.modules or 'flax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
