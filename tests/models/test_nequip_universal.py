"""The architecture of nequix-mp-1, a universal potential, from its file: shapes, and its numbers.

Koker et al., arXiv:2508.16067. The expected energies, forces and stresses of silicon are those that
the authors' own tests state.
"""

import json
from itertools import pairwise
from math import sqrt

import ase.build
import e3nn_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.models.nequip import NequIP, NequIPConfig
from mlip.nn.irreps import coupling_paths
from mlip.nn.radial import SILU_SCALE
from mlip.potential import Potential
from mlip.tensor_products.channel_groups import channel_groups

PARTS = ("radial_mlp", "linear_in", "linear_out", "self_interaction", "layer_norm")


@pytest.fixture(scope="module")
def file(shared):
    return shared / "pretrained" / "nequix" / "nequix-mp-1.nqx"


@pytest.fixture(scope="module")
def header_and_leaves(file):
    """The config line, and the arrays behind it in their order."""
    leaves = []
    with file.open("rb") as stream:
        header = json.loads(stream.readline())
        size = file.stat().st_size
        while stream.tell() < size - 128:  # an array has at least its own header
            leaves.append(np.load(stream))
    return header, leaves


@pytest.fixture(scope="module")
def config(header_and_leaves):
    header, _ = header_and_leaves
    irreps = [part.strip() for part in header["hidden_irreps"].split("+")]
    assert [part.split("x")[1] for part in irreps] == ["0e", "1o", "2e", "3o"]
    return NequIPConfig(
        elements=header["atomic_numbers"],
        cutoff=header["cutoff"],
        channels=[int(part.split("x")[0]) for part in irreps],
        lmax=header["lmax"],
        num_layers=header["n_layers"],
        num_bessel=header["radial_basis_size"],
        envelope_power=int(header["radial_polynomial_p"]),
        radial_mlp=[header["radial_mlp_size"]] * header["radial_mlp_layers"],
        embedding="one_hot",
        self_interaction="shared",
        layer_norm=header["layer_norm"],
        avg_num_neighbors=header["avg_n_neighbors"],
        scale=header["scale"],
        shift=header["shift"],
    )


def build(config):
    return NequIP(config, rngs=nnx.Rngs(0), dtype=jnp.float64)


def in_file_order(model):
    """The weights of a model as the file orders them."""
    for layer in model.layers:
        for part in PARTS:
            module = getattr(layer, part)
            yield from (module.scale if part == "layer_norm" else module.weights)
    yield model.readout.weight


def test_every_weight_has_its_shape(config, header_and_leaves):
    model = nnx.eval_shape(lambda: build(config))
    found = [weight.shape for weight in in_file_order(model)]
    e0, *weights = header_and_leaves[1]
    assert e0.shape == (89,)
    assert found == [weight.shape for weight in weights]
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 707_569


CELL = ase.build.bulk("Si", "diamond", a=5.43)
MOVED = CELL.copy()
MOVED.positions[0] += [0.1, 0.05, -0.05]
ENERGIES = [-10.834069, -10.753344]
FORCE = [-1.1041114, -0.45131257, 0.45131272]  # on the first atom of the second structure
STRESS = [  # xx, yy, zz, yz, xz, xy
    [-2.6995424e-02, -2.6995424e-02, -2.6995424e-02, 0.0, 0.0, 0.0],
    [-0.025367301, -0.0278149154, -0.0278149098, -0.0241314191, -0.0106064761, 0.0106064798],
]
SINGLE_PRECISION = 2e-5  # of the values to compare with


def test_its_weights_give_its_numbers(config, header_and_leaves):
    header, (_, *leaves) = header_and_leaves
    model = build(config)
    for weight, value in zip(in_file_order(model), converted(config, leaves), strict=True):
        assert weight.shape == value.shape
        weight[...] = jnp.asarray(value, jnp.float64)
    e0 = {int(number): energy for number, energy in header["atom_energies"].items()}
    potential = Potential(model, elements=config.elements, e0=e0, precision="float64")
    predictions = potential.predict([CELL, MOVED])
    voigt = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
    for prediction, energy, stress in zip(predictions, ENERGIES, STRESS, strict=True):
        np.testing.assert_allclose(prediction.energy, energy, atol=SINGLE_PRECISION)
        np.testing.assert_allclose(prediction.stress[voigt], stress, atol=SINGLE_PRECISION)
    np.testing.assert_allclose(predictions[0].forces, 0.0, atol=SINGLE_PRECISION)
    forces = [FORCE, np.negative(FORCE)]
    np.testing.assert_allclose(predictions[1].forces, forces, atol=SINGLE_PRECISION)


def converted(config, leaves):
    """The weights in the normalisations and the order of channels of `NequIP`."""
    leaves = iter(leaves)
    channels = config.layer_channels()
    for index, (before, after) in enumerate(pairwise(channels)):
        columns, rows_by_degree = orders(before, after, config.lmax)
        # The file's Bessel functions are √(2 / cutoff) times ours, its SiLU is not rescaled, and
        # its network does not divide by √fan-in.
        widths = (config.num_bessel, *config.radial_mlp)
        for layer, width in enumerate(widths):
            scale = sqrt(2.0 / config.cutoff) if layer == 0 else 1.0 / SILU_SCALE
            weight = next(leaves) * scale * sqrt(width)
            is_last = layer == len(widths) - 1
            yield weight[:, columns] if is_last else weight
        yield from (next(leaves) * after_gate(index) for _ in before)
        yield from (next(leaves)[rows] for rows in rows_by_degree)
        yield from (next(leaves) * after_gate(index) for _ in range(min(len(before), len(after))))
        gated = (after[0] + sum(after[1:]), *after[1:])
        weights = sum(count / (2 * degree + 1) for degree, count in enumerate(gated))
        yield from (next(leaves) * sqrt(len(gated) / weights) for _ in gated)
    yield next(leaves) * after_gate(1)
    assert next(leaves, None) is None


def after_gate(layer):
    """Of two estimates of the second moment of SiLU, for what comes out of a gate."""
    one = jnp.ones(())
    theirs = e3nn_jax.normalize_function(jax.nn.silu)(one) / jax.nn.silu(one)
    return 1.0 if layer == 0 else float(theirs) / SILU_SCALE


def orders(before, after, harmonics_lmax):
    """Where the file has the edge weights of `NequIP`, and the channels of its messages by degree.

    In both the couplings go by l3, l1, l2; the file has all channels of a coupling together,
    `NequIP` one group of channels after the other.
    """
    output_lmax = len(after) - 1
    theirs = [
        (path, channel)
        for path in coupling_paths(len(before) - 1, harmonics_lmax, output_lmax)
        for channel in range(before[path.l1])
    ]
    ours = [
        (path, channel)
        for group in channel_groups(before)
        for path in coupling_paths(group.lmax, harmonics_lmax, output_lmax)
        for channel in range(group.start, group.stop)
    ]

    def positions(degrees):
        place = {key: i for i, key in enumerate(key for key in theirs if key[0].l3 in degrees)}
        return np.array([place[key] for key in ours if key[0].l3 in degrees])

    return positions(range(output_lmax + 1)), [positions([l]) for l in range(output_lmax + 1)]
