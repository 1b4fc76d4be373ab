import pytest

from mlip.data.frames import Frames, Part
from mlip.data.splits import composition, is_held_out
from mlip.data.stream_split import split_parts
from mlip.errors import MlipError
from tests.support.sources import MadeUp


def parts(*sizes):
    return [
        Part(MadeUp(size, first=1000 * number), range(size), 1.0 + number)
        for number, size in enumerate(sizes)
    ]


def records(side):
    return [(part.source.identifier(0), record) for part in side for record in part.records]


def test_frames_are_held_out_exactly_and_in_proportion():
    train, valid = split_parts(parts(60, 40), 10, 0, "frame")
    assert [len(part.records) for part in valid] == [6, 4]
    assert len(set(records(train)) | set(records(valid))) == 100
    assert not set(records(train)) & set(records(valid))
    assert [part.weight for part in train] == [1.0, 2.0]
    assert [part.weight for part in valid] == [1.0, 1.0]
    again, other = (split_parts(parts(60, 40), 10, seed, "frame")[1] for seed in (0, 1))
    assert records(valid) == records(again) != records(other)


def test_trajectories_and_compositions_stay_together():
    (part,) = parts(120)
    for unit, group in (
        ("trajectory", part.source.trajectory),
        ("composition", lambda record: composition(part.source[record].numbers)),
    ):
        train, valid = split_parts([part], 40, 1, unit)
        sides = [{group(record) for _, record in records(side)} for side in (train, valid)]
        assert not sides[0] & sides[1], unit
        assert len(records(train)) + len(records(valid)) == 120
        assert 5 <= len(records(valid)) <= 90


def test_damaged_records_do_not_stop_a_split():
    class Unnamed(MadeUp):
        def trajectory(self, index):
            return f"walk of {self[index].identifier}"

    part = Part(Unnamed(40, bad=(3, 20)), range(40))
    for unit in ("trajectory", "composition"):
        train, valid = split_parts([part], 10, 0, unit)
        assert len(records(train)) + len(records(valid)) == 40


def test_a_group_is_held_out_by_its_name_alone():
    held_out = [is_held_out(f"random{number}", 0.2, 7) for number in range(2000)]
    assert sum(held_out) == pytest.approx(400, abs=80)
    assert held_out != [is_held_out(f"random{number}", 0.2, 8) for number in range(2000)]


@pytest.mark.parametrize("count", [0, 30])
def test_impossible_counts_are_refused(count):
    with pytest.raises(MlipError, match=f"cannot hold out {count} of 30"):
        split_parts(parts(30), count, 0, "frame")


def test_a_single_trajectory_cannot_be_split():
    with pytest.raises(MlipError, match=r"leaves no .* frames: there are too few groups"):
        split_parts(parts(10), 5, 0, "trajectory")


def test_streams_are_made_of_the_sides():
    train, valid = split_parts(parts(60, 40), 10, 0, "frame")
    assert (len(Frames(train)), len(Frames(valid))) == (54 + 72, 10)
