"""eSCN: exact symmetry at every truncation, smooth poles, its size, its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.cli.build import count_parameters
from mlip.data.collate import collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.models.escn import ESCN, ESCNConfig
from mlip.nn.geometry import edge_vectors
from tests.support.potentials import SHAPE, escn_config, molecule, moved, outputs, potential_of
from tests.support.rotations import random_rotation
from tests.tolerances import FLOAT64

# An atom in the middle of bonds along all axes, both ways, and one off them.
CROSS = 1.3 * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [1, 0.9, 0.3]]
)


def abstract(**options):
    """The model's shapes, without computing a weight."""
    config = ESCNConfig(elements=(1, 6, 7, 8), **options)
    return nnx.eval_shape(lambda: ESCN(config, rngs=nnx.Rngs(0), dtype=jnp.float32))


@pytest.fixture(scope="module")
def forces_by_mmax():
    """Of a molecule, itself turned and mirrored, for models that differ in mmax alone."""
    one = molecule(4, 6)
    changes = [np.eye(3), random_rotation(5), -random_rotation(6)]
    structures = [moved(one, one.positions @ change.T) for change in changes]
    results = {}
    for mmax in (0, None):
        potential = potential_of(escn_config(num_layers=1, mmax=mmax), seed=2)
        found = outputs(potential, structures)
        energies = [output.energy for output in found]
        np.testing.assert_allclose(energies, energies[0], rtol=0, atol=FLOAT64.energy)
        results[mmax] = [
            output.forces @ change for output, change in zip(found, changes, strict=True)
        ]
    return results


@pytest.mark.parametrize("mmax", [0, None])
def test_truncation_is_exactly_equivariant(forces_by_mmax, mmax):
    plain, turned, mirrored = forces_by_mmax[mmax]
    assert np.abs(plain).max() > 0.05
    np.testing.assert_allclose(turned, plain, rtol=0, atol=FLOAT64.forces)
    np.testing.assert_allclose(mirrored, plain, rtol=0, atol=FLOAT64.forces)


def test_higher_orders_change_the_forces(forces_by_mmax):
    scalars, all_orders = (forces[0] for forces in forces_by_mmax.values())
    assert np.abs(scalars - all_orders).max() > 1e-2


def test_bonds_through_the_poles_and_between_the_charts():
    """At bonds along the axes, force and second derivative are the slopes of what is beside."""
    potential = potential_of(escn_config(cutoff=2.2, num_layers=1), seed=1)
    numbers = np.resize(potential.elements, len(CROSS)).astype(np.int32)
    structure = Structure(numbers, CROSS)
    pairs = neighbor_list(structure, potential.cutoff)
    shape = SHAPE._replace(graphs=1, nodes=9, blocks=12, width=8)
    graph = collate([structure], [pairs], potential.elements, shape, potential.dtype)
    graphdef, state = nnx.split(potential.model)
    direction = np.zeros((9, 3))
    direction[0] = [0.3, -0.4, 0.5]  # moves all bonds off the axes, through poles and charts

    def energy(t):
        vectors = edge_vectors(graph, graph.positions + t * jnp.asarray(direction))
        return jnp.sum(nnx.merge(graphdef, state)(graph, vectors))

    @jax.jit
    @jax.vmap
    def derivatives(t):
        slope = jax.grad(energy)
        return energy(t), slope(t), jax.grad(slope)(t)

    step = 1e-4
    e, slope, curvature = derivatives(step * jnp.asarray([-1.0, 0.0, 1.0]))
    assert np.all(np.isfinite(curvature))
    assert abs(slope[1]) > 0.01
    assert abs(curvature[1]) > 0.1
    relative = FLOAT64.finite_difference
    np.testing.assert_allclose((e[2] - e[0]) / (2 * step), slope[1], rtol=100 * relative)
    np.testing.assert_allclose(
        (slope[2] - slope[0]) / (2 * step), curvature[1], rtol=100 * relative
    )


def test_number_of_parameters():
    """Dense maps of each order, counted by hand for messages without radial network."""
    model = abstract(channels=8, message_channels=4, hidden_channels=6, lmax=2, mmax=1)
    message = model.layers[0].message
    assert count_parameters(message.linear_in) == 12 * (18 + 2 * 6) + 8 * 12
    assert count_parameters(message.linear_out) == 18 * 12 + 12 * 8
    assert count_parameters(message.radial_mlp) == 40 * 64 + 64 * 64 + 64 * (3 + 2) * 4


def test_last_layer_has_no_more_than_scalars_need():
    first, last = abstract().layers
    assert len(first.feed_forward.linear_out.weights) == 4
    assert len(last.feed_forward.linear_out.weights) == 1


def test_decayed_weights():
    """The matrices; no embedding and no scale of a norm."""
    mask = {
        ".".join(map(str, path)): bool(value.get_value())
        for path, value in nnx.to_flat_state(abstract().decay_mask())
    }
    kept = {name for name, decays in mask.items() if not decays}
    assert {name for name in mask if "norm" in name or name.endswith("embedding")} == kept
    assert {name for name in mask if "weights" in name} == set(mask) - kept


@pytest.mark.parametrize(
    "option",
    [{"lmax": 0}, {"mmax": -1}, {"correlation": 1}, {"convolution": {"name": "so2"}}],
    ids=lambda option: next(iter(option)),
)
def test_impossible_options_are_refused(option):
    with pytest.raises(MlipError, match=next(iter(option))):
        ESCNConfig(elements=(1,), **option)


def test_an_operator_that_is_no_product_is_refused():
    with pytest.raises(MlipError, match="so2 cannot be used as product"):
        escn_config(product={"name": "so2"})
