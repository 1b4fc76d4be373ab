"""Few shapes serve many structures."""

from __future__ import annotations

import numpy as np

from mlip.data.collate import BatchShape
from mlip.simulation.buckets import Buckets


def holds(shape: BatchShape, counts: np.ndarray) -> bool:
    return shape.nodes >= len(counts) and shape.blocks >= np.sum(-(-counts // shape.width))


def molecule(atoms: int, neighbors: int, seed: int = 0) -> np.ndarray:
    """Neighbour counts that scatter by a quarter."""
    return np.random.default_rng(seed).integers(neighbors * 3 // 4, neighbors * 5 // 4, size=atoms)


def test_the_first_structure_fits_tightly_with_room_for_its_edges():
    counts = np.full(27, 16)  # and spare ones: 18
    shape, reason = Buckets().fit(counts)
    assert shape == BatchShape(1, 27, 27, 24)
    assert reason == "first structure"


def test_fluctuating_neighbors_stay_in_one_bucket():
    buckets = Buckets()
    for seed in range(50):
        shape, _ = buckets.fit(molecule(27, 16, seed))
        assert holds(shape, molecule(27, 16, seed))
    assert len(buckets.shapes) <= 2


def test_outgrown_buckets_keep_the_exact_atom_count():
    buckets = Buckets()
    buckets.fit(np.full(27, 16))
    shape, reason = buckets.fit(np.full(27, 40))
    assert shape.nodes == 27
    assert reason == "27 atoms have more neighbours than any bucket holds"


def test_hundreds_of_sizes_need_few_buckets():
    buckets = Buckets()
    rng = np.random.default_rng(0)
    for seed, atoms in enumerate(rng.integers(1, 200, size=1000)):
        counts = molecule(int(atoms), 20, seed)
        assert holds(buckets.fit(counts).shape, counts)
    assert len(buckets.shapes) < 15


def test_a_new_bucket_serves_the_structure_it_was_made_for():
    rng = np.random.default_rng(2)
    for _ in range(300):
        buckets = Buckets([BatchShape(1, 2000, 20000, 32), BatchShape(1, 3, 3, 4)])
        atoms, density = int(rng.integers(1, 400)), int(rng.integers(0, 150))
        counts = rng.poisson(density * rng.random(atoms))
        shape, _ = buckets.fit(counts)
        assert buckets.fit(counts) == (shape, "")


def test_a_small_structure_does_not_pay_for_a_large_bucket():
    buckets = Buckets()
    buckets.fit(np.full(1000, 50))
    shape, reason = buckets.fit(np.full(100, 20))
    assert shape.nodes < 130
    assert reason == "100 atoms would waste the larger buckets"


def test_the_width_follows_the_density():
    buckets = Buckets()
    sparse, dense = (buckets.fit(np.full(100, count)).shape for count in (4, 64))
    assert sparse.width < dense.width


def test_the_choice_depends_on_the_set_of_buckets_alone():
    rng = np.random.default_rng(1)
    sizes = [molecule(int(rng.integers(5, 80)), int(rng.integers(4, 40)), k) for k in range(60)]
    buckets = Buckets()
    for counts in sizes:
        buckets.fit(counts)
    again = Buckets(buckets.shapes)
    for counts in sizes:
        assert again.fit(counts) == (buckets.fit(counts).shape, "")


def test_no_edges_at_all():
    shape, _ = Buckets().fit(np.zeros(1, int))
    assert shape.nodes == 1
    assert shape.blocks >= 1
