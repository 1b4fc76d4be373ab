"""Few shapes serve many structures."""

from __future__ import annotations

import numpy as np

from mlip.data.collate import BatchShape
from mlip.simulation.buckets import Buckets


def test_the_first_structure_fits_tightly_with_room_for_its_edges():
    shape, reason = Buckets(8).fit(27, 70)
    assert shape == BatchShape(1, 27, 77, 8)
    assert reason == "first structure"


def test_fluctuating_edges_stay_in_one_bucket():
    buckets = Buckets(8)
    buckets.fit(27, 70)
    assert all(buckets.fit(27, blocks).reason == "" for blocks in range(60, 78))
    assert len(buckets.shapes) == 1


def test_outgrown_buckets_keep_the_exact_atom_count():
    buckets = Buckets(8)
    buckets.fit(27, 70)
    shape, reason = buckets.fit(27, 78)
    assert shape.nodes == 27
    assert shape.blocks > 78
    assert reason == "624 edges exceed the bucket of 616"


def test_hundreds_of_sizes_need_few_buckets():
    buckets = Buckets(8)
    rng = np.random.default_rng(0)
    for atoms in rng.integers(1, 200, size=1000):
        blocks = int(atoms * rng.uniform(2.0, 2.6))
        shape = buckets.fit(int(atoms), blocks).shape
        assert shape.nodes >= atoms
        assert shape.blocks >= blocks
    assert len(buckets.shapes) < 25


def test_a_small_structure_does_not_pay_for_a_large_bucket():
    buckets = Buckets(8)
    buckets.fit(1000, 7000)
    shape, reason = buckets.fit(10, 20)
    assert shape.nodes < 20
    assert "far fewer" in reason


def test_given_shapes_are_used():
    shape = BatchShape(1, 27, 80, 8)
    assert Buckets(8, [shape]).fit(27, 75) == (shape, "")


def test_no_edges_at_all():
    shape, _ = Buckets(8).fit(1, 0)
    assert shape.nodes == 1
    assert shape.blocks >= 1
