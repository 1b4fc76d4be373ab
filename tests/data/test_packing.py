import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlip.data import packing
from mlip.data.packing import Sizes
from mlip.data.shapes import MAX_SHAPES, choose_shapes, padding, smallest_fitting

WIDTH = 8

sizes_of = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 200)), min_size=1, max_size=60)


def make_sizes(pairs) -> Sizes:
    atoms, edges = np.array(pairs).T
    return Sizes(atoms, edges, -(-edges // WIDTH))


def choose(sizes, batch_size, shuffle=True):
    strata = packing.stratify(sizes, -(-len(sizes.atoms) // batch_size))
    fixed = packing.arrange(strata, sizes)
    return choose_shapes(strata, sizes, fixed, WIDTH, shuffle=shuffle)


def epochs(sizes, batch_size, shapes, shuffle):
    strata = packing.stratify(sizes, -(-len(sizes.atoms) // batch_size))
    fixed = packing.arrange(strata, sizes)
    tables = [fixed]
    if shuffle:
        generators = map(np.random.default_rng, range(1000, 1010))
        limit = np.array([shapes[-1].blocks, shapes[-1].nodes])
        tables = [packing.draw(strata, sizes, limit, fixed, g) for g in generators]
    return [packing.members(table) for table in tables]


@given(pairs=sizes_of, batch_size=st.integers(1, 9), shuffle=st.booleans())
def test_every_batch_of_every_epoch_fits_and_nothing_is_lost(pairs, batch_size, shuffle):
    sizes = make_sizes(pairs)
    shapes = choose(sizes, batch_size, shuffle)
    assert 1 <= len(shapes) <= MAX_SHAPES
    for batches in epochs(sizes, batch_size, shapes, shuffle):
        assert sorted(np.concatenate(batches)) == list(range(len(pairs)))
        assert len(batches) == -(-len(pairs) // batch_size)
        for batch in batches:
            shape = smallest_fitting(batch, sizes, shapes)
            assert len(batch) <= min(batch_size, shape.graphs)
            assert sizes.atoms[batch].sum() <= shape.nodes
            assert sizes.blocks[batch].sum() <= shape.blocks


@given(pairs=sizes_of, batch_size=st.integers(1, 9))
def test_batches_are_equally_long(pairs, batch_size):
    (batches,) = epochs(make_sizes(pairs), batch_size, [], False)
    lengths = {len(batch) for batch in batches}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) > 0


def test_equal_molecules_get_one_shape_without_padded_atoms():
    generator = np.random.default_rng(0)
    sizes = make_sizes([(27, n) for n in generator.integers(440, 480, size=450)])
    shapes = choose(sizes, 5, True)
    assert len(shapes) == 1
    assert (shapes[0].graphs, shapes[0].nodes) == (5, 135)
    batches = epochs(sizes, 5, shapes, False)[0]
    assert padding(batches, sizes, shapes).atoms == 0
    assert padding(batches, sizes, shapes).edges < 0.05


def test_very_unequal_structures_get_several_shapes():
    sizes = make_sizes([(5, 50)] * 50 + [(100, 2000)] * 5)
    shapes = choose(sizes, 1, True)
    assert len(shapes) == 2
    assert shapes[0].blocks < shapes[1].blocks
    batches = epochs(sizes, 1, shapes, False)[0]
    padded = padding(batches, sizes, shapes)
    assert padded.edges < 0.15


def test_stratified_batches_pad_less_than_the_worst_case():
    generator = np.random.default_rng(1)
    atoms = generator.integers(20, 120, size=600)
    sizes = make_sizes([(n, 30 * n) for n in atoms])
    shape = choose(sizes, 16, True)[-1]
    assert shape.nodes < 1.05 * 16 * atoms.mean()


def test_random_batches_differ_from_epoch_to_epoch():
    generator = np.random.default_rng(2)
    sizes = make_sizes([(n, 20 * n) for n in generator.integers(10, 90, size=200)])
    shapes = choose(sizes, 5, True)
    found = [{frozenset(batch) for batch in epoch} for epoch in epochs(sizes, 5, shapes, True)]
    assert len(set.union(*found)) > 0.95 * sum(map(len, found))
