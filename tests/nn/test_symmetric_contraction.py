"""The fast evaluation of the many-body product equals the sum that defines it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.nn.generalized_cg import coupling_tensor
from mlip.nn.symmetric_contraction import MOST_ELEMENTS_WITHOUT_TILES, SymmetricContraction
from tests.tolerances import FLOAT64

LMAX, HIDDEN, CHANNELS, ATOMS = 2, 1, 2, 21
FEW, MANY = 3, MOST_ELEMENTS_WITHOUT_TILES + 2


def direct(layer, features, species):
    """Σ_ν Σ_η w U A … A, atom by atom."""
    out = []
    for degree, orders in enumerate(layer.weights):
        total = 0.0
        for order, weight in enumerate(orders, start=1):
            coupling = coupling_tensor(layer.lmax, degree, order)
            own = np.asarray(weight[...])[species]  # (N, paths, C)
            letters = "abcd"[:order]
            factors = ",".join(f"n{letter}k" for letter in letters)
            total = total + np.einsum(
                f"pm{letters},npk,{factors}->nmk", coupling, own, *[features] * order, optimize=True
            )
        out.append(total)
    return np.concatenate(out, axis=1)


@pytest.mark.parametrize(
    ("correlation", "elements"), [(1, FEW), (2, FEW), (3, FEW), (4, FEW), (1, MANY), (3, MANY)]
)
def test_equals_the_defining_sum(correlation, elements):
    lmax = LMAX if correlation < 4 else 1
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ATOMS, (lmax + 1) ** 2, CHANNELS))
    # The last element but one does not occur: its tile stays empty.
    species = rng.choice(np.delete(np.arange(elements), elements - 2), ATOMS).astype(np.int32)
    layer = SymmetricContraction(
        lmax, HIDDEN, correlation, elements, CHANNELS, rngs=nnx.Rngs(0), dtype=jnp.float64
    )
    ours = nnx.jit(lambda layer, *args: layer(*args))(layer, jnp.asarray(features), species)
    expected = direct(layer, features, species)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=FLOAT64.relative * scale)


@pytest.mark.parametrize("elements", [FEW, MANY], ids=["without tiles", "tiles"])
def test_atoms_do_not_depend_on_each_other(elements):
    """Each row of the Jacobian belongs to its own atom, whatever the grouping."""
    layer = SymmetricContraction(1, 0, 2, elements, 1, rngs=nnx.Rngs(0), dtype=jnp.float64)
    species = jnp.asarray([1, 0, 2, 1, 0], jnp.int32)
    features = jax.random.normal(jax.random.key(0), (5, 4, 1), jnp.float64)
    jacobian = jax.jit(jax.jacrev(lambda x: layer(x, species)[:, 0, 0]))(features)
    own = np.abs(np.asarray(jacobian)).sum(axis=(2, 3)) > 0
    assert np.array_equal(own, np.eye(5, dtype=bool))
