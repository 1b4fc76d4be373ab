"""The Clebsch–Gordan products against one another, for unequal degrees as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.nn.irreps import dim
from mlip.tensor_products.clebsch_gordan import ClebschGordanDense, ClebschGordanSparse
from mlip.tensor_products.edgewise import EdgewiseConvolution
from mlip.tensor_products.path_shared import PathShared, PathSharedConvolution
from mlip.tensor_products.sparse import BilinearMap
from tests.support.tensor_products import MASK, NODES, messages
from tests.tolerances import FLOAT64

UNEQUAL = [(0, 0, 0), (1, 2, 3), (3, 2, 1), (2, 0, 2)]
unequal_degrees = pytest.mark.parametrize("degrees", UNEQUAL, ids=str)
all_paths = pytest.mark.parametrize("paths", ["even", "odd"])


def close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * FLOAT64.relative)


def random_factors(degrees, channels=3, second_channels=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, dim(degrees[0]), channels))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(2, 4, dim(degrees[1]), second_channels)))


@unequal_degrees
@all_paths
@pytest.mark.parametrize("second_channels", [1, 3])
def test_sparse_equals_dense(degrees, paths, second_channels):
    dense, sparse = ClebschGordanDense(*degrees), ClebschGordanSparse(*degrees)
    x, y = random_factors(degrees, second_channels=second_channels)
    expected = jax.jit(lambda x, y: dense(x, y, paths))(x, y)
    close(jax.jit(lambda x, y: sparse(x, y, paths))(x, y), expected)
    assert sparse.multiplies(paths) <= dense.multiplies(paths)


@unequal_degrees
@all_paths
def test_path_shared_adds_the_copies(degrees, paths):
    dense, shared = ClebschGordanDense(*degrees), PathShared(*degrees)
    x, y = random_factors(degrees)
    apart = jax.jit(lambda x, y: dense(x, y, paths))(x, y)
    together = jax.jit(lambda x, y: shared(x, y, paths))(x, y)
    for one, copies, part in zip(together, dense.copies(paths), apart, strict=True):
        assert one.shape[-1] == 3 * min(copies, 1)
        if copies:
            added = part.reshape(*part.shape[:-1], copies, 3).sum(axis=-2)
            close([one], [added / np.sqrt(copies)])


@unequal_degrees
@pytest.mark.parametrize("paths", ["even", "all"])
def test_fused_convolution_equals_the_sum_over_edges(degrees, paths):
    """With one weight for all degrees of the harmonics."""
    fused = PathSharedConvolution(*degrees, paths)
    plain = EdgewiseConvolution(PathShared(*degrees, paths), "degree")
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.normal(size=(NODES, dim(degrees[0]), 3)))
    vectors = jnp.asarray(rng.normal(size=(*MASK.shape, 3)))
    weights = jnp.asarray(rng.normal(size=(*MASK.shape, 3)) * MASK[..., None])

    @jax.jit
    def both():
        repeated = jnp.tile(weights, plain.num_weights)
        return messages(fused, features, vectors, weights), messages(
            plain, features, vectors, repeated
        )

    close(*both())
    assert fused.output_multiplicity == plain.output_multiplicity
    assert fused.mirrors == plain.mirrors == (paths == "even")


def random_map():
    rng = np.random.default_rng(2)
    terms = np.stack([rng.integers(size, size=17) for size in (6, 4, 5)], axis=1)
    terms[:, 0] = np.minimum(terms[:, 0], 4)  # nothing adds to the last row
    return BilinearMap(terms, rng.normal(size=17), (6, 4, 5))


def test_bilinear_map_from_terms_in_any_order():
    one = random_map()
    rng = np.random.default_rng(3)
    x, y = jnp.asarray(rng.normal(size=(4, 7, 2))), jnp.asarray(rng.normal(size=(5, 7, 1)))
    close([jax.jit(one)(x, y)], [jnp.einsum("kij,inc,jnc->knc", one.dense(), x, y + 0 * x[:1])])


def test_bilinear_map_derivatives_of_shared_lanes():
    """Where the second factor has one channel its derivative is the sum over the channels."""
    one = random_map()
    rng = np.random.default_rng(4)
    x, y, z = (jnp.asarray(rng.normal(size=s)) for s in ((4, 7, 2), (5, 7, 1), (6, 7, 2)))
    dx, dy = jax.jit(lambda x, y: jax.vjp(one, x, y)[1](z))(x, y)
    dense = one.dense()
    close([dx], [jnp.einsum("kij,knc,jnd->inc", dense, z, y)])
    close([dy], [jnp.einsum("kij,knc,inc->jn", dense, z, x)[..., None]])


def test_a_map_without_terms_is_zero():
    empty = BilinearMap(np.zeros((0, 3), int), np.zeros(0), (0, 4, 5))
    assert empty(jnp.ones((4, 2)), jnp.ones((5, 2))).shape == (0, 2)
