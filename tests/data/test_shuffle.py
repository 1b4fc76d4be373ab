import numpy as np
import pytest

from mlip.data.shuffle import shuffled


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_it_is_a_permutation(size):
    order = shuffled(np.arange(size), size, (3, 1))
    assert sorted(order) == list(range(size))


def test_places_are_computed_one_by_one_in_sets_of_any_size():
    size = 134_000_000
    places = np.array([0, 5, size - 1])
    order = shuffled(places, size, (0,))
    assert len(set(order.tolist())) == 3
    assert [int(shuffled(places[i : i + 1], size, (0,))[0]) for i in range(3)] == order.tolist()


def test_orders_depend_on_the_key_only():
    first, again, other = (shuffled(np.arange(500), 500, key) for key in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) < 0.05


def test_every_thing_comes_to_every_place():
    size, orders = 7, 700
    counts = np.zeros((size, size))
    for epoch in range(orders):
        counts[np.arange(size), shuffled(np.arange(size), size, (0, epoch))] += 1
    chi_squared = np.sum((counts - orders / size) ** 2 / (orders / size))
    assert chi_squared < 36 + 5 * np.sqrt(2 * 36)  # (7 - 1)² degrees of freedom


def test_neighbours_do_not_stay_together():
    order = shuffled(np.arange(2000), 2000, (5,))
    distances = np.abs(np.diff(order))
    assert distances.mean() == pytest.approx(2000 / 3, rel=0.1)
    assert abs(np.corrcoef(np.arange(2000), order)[0, 1]) < 0.1
