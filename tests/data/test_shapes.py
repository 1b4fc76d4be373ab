import numpy as np
import pytest

from mlip.data.packing import Sizes, pack_window
from mlip.data.shapes import (
    GROWTH,
    MAX_SHAPES,
    choose_width,
    choose_window_shapes,
    shape_of_batch,
    smallest_fitting,
)
from mlip.errors import MlipError

WIDTH = 8


def sizes_of(atoms, neighbors=12) -> Sizes:
    atoms = np.asarray(atoms)
    edges = neighbors * atoms
    return Sizes(atoms, edges, -(-edges // WIDTH))


@pytest.mark.parametrize(("counts", "width"), [([4] * 9, 4), ([12] * 9, 12), ([31, 32], 32)])
def test_the_width_suits_the_neighbour_counts(counts, width):
    assert choose_width(np.array(counts)) == width


def test_a_given_shape_that_is_too_small_is_refused():
    shapes, _ = choose_window_shapes(sizes_of([10] * 10), WIDTH, batch_size=2, window=10)
    with pytest.raises(MlipError, match="too small"):
        smallest_fitting(np.arange(5), sizes_of([10] * 10), shapes)


def test_shapes_of_a_stream_hold_nearly_all_batches_and_pad_little():
    generator = np.random.default_rng(0)
    population = generator.integers(10, 60, size=50_000)
    sample = sizes_of(generator.choice(population, size=2000))
    shapes, padding = choose_window_shapes(sample, WIDTH, batch_size=16, window=16 * 32)
    assert len(shapes) <= MAX_SHAPES
    assert {shape.graphs for shape in shapes} == {16}
    assert 0 < padding.edges < 0.15
    larger = padded = edges = 0
    for _ in range(40):
        sizes = sizes_of(generator.choice(population, size=16 * 32))
        for batch in pack_window(sizes, 32, generator):
            assert len(batch) == 16
            shape = shape_of_batch(batch, sizes, shapes)
            larger += shape not in shapes
            padded += shape.blocks * WIDTH
            edges += sizes.edges[batch].sum()
    assert larger <= 2
    assert 1 - edges / padded == pytest.approx(padding.edges, abs=0.03)


def test_a_batch_that_exceeds_all_shapes_gets_a_larger_one_that_depends_on_it_alone():
    shapes, _ = choose_window_shapes(sizes_of([10, 12] * 50), WIDTH, batch_size=4, window=128)
    giants = sizes_of([10, 60, 70, 80])
    found = shape_of_batch(np.arange(4), giants, shapes)
    assert found == shape_of_batch(np.arange(4), giants, [*shapes])
    assert found.nodes >= 220
    assert found.blocks >= giants.blocks.sum()
    assert found.nodes < 220 * GROWTH * 1.2
    assert found.width == WIDTH


def test_a_window_is_packed_into_as_many_batches_as_asked_for():
    generator = np.random.default_rng(1)
    for count in (5, 6, 9, 10):
        batches = pack_window(sizes_of(generator.integers(3, 9, size=count)), 5, generator)
        assert sorted(np.concatenate(batches)) == list(range(count))
        assert {len(batch) for batch in batches} <= {count // 5, -(-count // 5)}
