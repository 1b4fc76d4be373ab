import pickle
from collections import Counter

import numpy as np
import pytest

from mlip.data.frames import Frames, Part
from mlip.data.sources.source import BadRecordError
from tests.support.sources import MadeUp

pytest_plugins = ("tests.support.progress",)


def part(size, weight=1.0, **options):
    return Part(MadeUp(size, **options), range(size), weight)


def names(frames, epoch):
    parts, records = frames.locate(np.arange(len(frames)), epoch)
    return list(zip(parts.tolist(), records.tolist(), strict=True))


def test_frames_stand_in_the_order_of_the_files():
    frames = Frames([part(3), part(2, first=50)])
    assert len(frames) == 5
    assert [s.identifier for s in frames] == [f"made_up#{i}" for i in (0, 1, 2, 50, 51)]


def test_weights_set_how_often_a_record_occurs():
    frames = Frames([part(10), part(10, weight=0.5), part(4, weight=2.5)])
    assert len(frames) == 10 + 5 + 10
    counts = Counter(name for epoch in range(4) for name in names(frames, epoch))
    assert {count for (number, _), count in counts.items() if number == 0} == {4}
    assert {count for (number, _), count in counts.items() if number == 1} == {2}
    assert {count for (number, _), count in counts.items() if number == 2} == {10}
    # One pass over the second part takes two epochs, in an order of its own.
    halves = [{record for number, record in names(frames, e) if number == 1} for e in range(2)]
    assert not halves[0] & halves[1]


def test_reading_follows_the_positions_asked_for():
    frames = Frames([part(6)])
    read = frames.read(np.array([4, 0, 2]))
    assert [s.identifier for s in read.structures] == ["made_up#4", "made_up#0", "made_up#2"]
    assert read.positions.tolist() == [4, 0, 2]
    assert read.faults == []


def test_bad_records_are_errors_or_left_out():
    source = part(6, bad=(1, 4))
    with pytest.raises(BadRecordError, match=r"made_up#1: a bit .* dataset\.on_bad_record=skip"):
        Frames([source]).read(np.arange(6))
    read = Frames([source], skip_bad=True).read(np.array([5, 4, 1, 0]))
    assert [s.identifier for s in read.structures] == ["made_up#5", "made_up#0"]
    assert read.positions.tolist() == [5, 0]
    assert [fault.partition(":")[0] for fault in read.faults] == ["made_up#1", "made_up#4"]


def test_a_sample_is_repeatable_and_has_no_record_twice():
    frames = Frames([part(50, weight=3.0)])
    first, again = frames.sample(40), frames.sample(40)
    found = [s.identifier for s in first.structures]
    assert found == [s.identifier for s in again.structures]
    assert len(found) == len(set(found)) > 15


def test_chunks_hold_every_frame_once():
    frames = Frames([part(11)])
    chunks = [[s.identifier for s in read.structures] for read in frames.chunks(4)]
    assert [len(chunk) for chunk in chunks] == [4, 4, 3]
    assert sorted(name for chunk in chunks for name in chunk) == sorted(
        f"made_up#{i}" for i in range(11)
    )


def test_they_can_be_sent_to_another_process():
    frames = pickle.loads(pickle.dumps(Frames([part(5)])))
    assert frames[2].identifier == "made_up#2"


def test_a_sample_is_read_with_a_bar(shown):
    assert len(Frames([part(9)]).sample(4).structures) == 4
    assert shown == [("sample", 4), 1, 2, 3, 4]
