import pickle

import numpy as np
import pytest

from mlip.data.records import BLOCK, Marked, Shuffled, take


def test_a_slice_is_taken():
    records = range(20)[4:18:3]
    assert take(records, np.arange(len(records))).tolist() == list(records)


def test_shares_of_an_order_are_disjoint_and_complete():
    records, key = range(10, 90), (1, 2)
    first, rest = Shuffled(records, key, 0, 30), Shuffled(records, key, 30, 80)
    assert (len(first), len(rest)) == (30, 50)
    assert sorted([*first, *rest]) == list(records)
    assert list(first) != sorted(first)


@pytest.mark.parametrize("size", [5, BLOCK, 2 * BLOCK + 77])
def test_marked_records_are_found_again(size):
    marks = np.random.default_rng(size).random(size) < 0.3
    marks[0] = True
    marked = Marked(range(100, 100 + size), marks)
    expected = 100 + np.flatnonzero(marks)
    assert len(marked) == len(expected)
    places = np.random.default_rng(0).permutation(len(expected))
    np.testing.assert_array_equal(marked.take(places), expected[places])
    assert (marked[0], marked[-1]) == (expected[0], expected[-1])
    with pytest.raises(IndexError):
        marked[len(marked)]


def test_marks_take_a_bit_each():
    marked = Marked(range(10**6), np.ones(10**6, bool))
    assert len(pickle.dumps(marked)) < 10**6 / 8 * 1.1
