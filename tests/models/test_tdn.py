"""TDN: the published size, what the mended options mend, direct forces."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.cli.build import count_parameters
from mlip.cli.compose import compose
from mlip.cli.schema import SCHEMAS
from mlip.cli.validate import validate
from mlip.data.collate import BatchShape, collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.models.tdn import TDN
from mlip.potential import evaluate
from mlip.tensor_products.cp import CPSettings
from mlip.tensor_products.registry import OPERATORS
from tests.support.potentials import (
    crystal,
    energies,
    molecule,
    moved,
    outputs,
    potential_of,
    tdn_config,
)
from tests.support.rotations import random_rotation
from tests.tolerances import FLOAT64

AS_PUBLISHED = {
    "convolution": CPSettings(rank="paper", paths="all"),
    "envelope_power": None,
    "norm": "per_degree",
    "forces": "direct",
    "readout": "intensive",
    "one_hot": 80,
    "avg_num_atoms": 4.0,
}


TINY_SHAPE = BatchShape(graphs=3, nodes=16, blocks=16, width=8)


@cache
def potential(**changes):
    return potential_of(tdn_config(num_layers=1, **changes))


def abstract(option):
    """The model of a configuration file, its shapes without a weight."""
    settings = validate(SCHEMAS["train"], compose("train", ["dataset=quickstart", option]))
    config = settings.model.model_copy(update={"elements": (1, 6, 7, 8), "avg_num_neighbors": 9.0})
    config = config.model_copy(update={"avg_num_atoms": 27.0, "scale": 1.0, "shift": 0.0})
    return nnx.eval_shape(lambda: TDN(config, rngs=nnx.Rngs(0), dtype=jnp.float32))


def test_number_of_parameters_of_the_published_architecture():
    model = abstract("model=tdn_paper")
    assert {count_parameters(layer) for layer in model.layers} == {631_168}
    assert len(model.layers) == 6
    parts = {
        "degree_embedding": 169_088,
        "atom_embedding": 20_736,
        "force_head": 432_513,
        "energy_head": 66_049,
        "radial_basis": 514,
        "norm": 768,
    }
    assert {name: count_parameters(getattr(model, name)) for name in parts} == parts
    assert count_parameters(model) == 4_476_676
    config = model.config
    assert (config.cutoff, config.lmax, config.num_heads) == (4.5, 1, 4)
    published = {name: getattr(config, name) for name in AS_PUBLISHED if name != "avg_num_atoms"}
    assert published == {name: AS_PUBLISHED[name] for name in published}


def test_decayed_weights():
    """Matrices; no bias, norm, embedding, score vector, centre or width."""
    model = abstract("model=tdn")
    mask = {
        ".".join(map(str, path)): bool(value.get_value())
        for path, value in nnx.to_flat_state(model.decay_mask())
    }
    kinds = {}
    for name, value in mask.items():
        last = [part for part in name.split(".") if not part.isdigit()][-1]
        kinds.setdefault(last, set()).add(value)
    assert {name for name, values in kinds.items() if values == {True}} == {"weight", "weights"}
    assert all(len(values) == 1 for values in kinds.values())
    assert {"bias", "scale", "table", "score", "center", "width", "offset"} <= kinds.keys()


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_auto_is_told_of_every_convolution(forces):
    config = tdn_config(lmax=2, forces=forces)
    model = nnx.eval_shape(lambda: TDN(config, rngs=nnx.Rngs(0), dtype=jnp.float64))
    heads = [] if model.force_head is None else [model.force_head.attention]
    attentions = [*(layer.attention for layer in model.layers), *heads]
    used = [
        (model.degree_embedding.product, "atoms"),
        *((one.product, call) for one in attentions for call in ("single_edges", "edges")),
    ]
    expected = [
        (one.input_lmax, one.harmonics_lmax, one.output_lmax, config.channels, call)
        for one, call in used
    ]
    assert config.operator_shapes()["convolution"] == expected


def test_decomposition_at_exact_rank_is_the_default_operator():
    """The same weights give the same energies and forces."""
    default, decomposed = (potential(convolution=OPERATORS[name].settings()) for name in
                           ("path_shared", "cp"))  # fmt: skip
    same = decomposed.with_state(nnx.state(default.model))
    for ours, other in zip(*(outputs(one, [molecule(1)]) for one in (default, same)), strict=True):
        np.testing.assert_allclose(other.energy, ours.energy, rtol=0, atol=FLOAT64.energy)
        np.testing.assert_allclose(other.forces, ours.forces, rtol=0, atol=FLOAT64.forces)


def test_all_couplings_break_mirror_images():
    """With exact factors, so that rotations are respected all the same.

    A single layer has no odd coupling to show: an axial vector of its first product, x × r, has
    no component along r for the second.
    """
    chosen = potential_of(tdn_config(convolution=CPSettings(paths="all")))
    one, matrix = molecule(3), random_rotation(2)
    images = [moved(one, one.positions @ m.T) for m in (matrix, -matrix)]
    plain, turned, mirrored = energies(chosen, [one, *images], TINY_SHAPE)
    np.testing.assert_allclose(turned, plain, rtol=0, atol=FLOAT64.energy)
    assert abs(mirrored - plain) > 1e-4


def test_weights_of_the_published_model_are_trained():
    """On energies and direct forces, with an atom without neighbours in the batch.

    Two biases of the force head belong to scalars that nobody reads.
    """
    chosen = potential_of(tdn_config(num_layers=1, **AS_PUBLISHED), "float32")
    one = molecule(1)
    positions = np.concatenate([one.positions, [[50.0, 0.0, 0.0]]])
    structure = Structure(np.append(one.numbers, 8).astype(np.int32), positions)
    pairs = neighbor_list(structure, chosen.cutoff)
    shape = BatchShape(2, 8, 8, 6)
    graph = collate([structure], [pairs], chosen.elements, shape, chosen.dtype)
    graphdef, state = nnx.split(chosen.model)

    def loss(state):
        output = evaluate(nnx.merge(graphdef, state), graph)
        return jnp.sum(output.energy**2) + jnp.sum((output.forces - 1.0) ** 2)

    gradient = {
        ".".join(map(str, path)): np.asarray(value.get_value())
        for path, value in nnx.to_flat_state(jax.jit(jax.grad(loss))(state))
    }
    assert all(np.all(np.isfinite(value)) for value in gradient.values())
    unused = {name for name, value in gradient.items() if not np.any(value)}
    assert unused == {"force_head.linear.bias", "force_head.attention.linear.bias"}


def trimer(distance):
    positions = np.array([[0.0, 0.0, 0.0], [-0.4, 1.1, 0.3], [distance, 0.0, 0.0]])
    return Structure(np.array([8, 6, 1], np.int32), positions)


def jump(chosen):
    """Change of energy and forces as the last atom of a trimer crosses the cutoff."""
    inside, outside = outputs(chosen, [trimer(3.0 + change) for change in (-1e-4, 1e-4)])
    return abs(inside.energy - outside.energy), np.abs(inside.forces - outside.forces).max()


def test_envelope_removes_the_jump_at_the_cutoff():
    """In gradient mode; the conformance tests hold the second derivative."""
    energy, forces = jump(potential())
    assert energy < 1e-8
    assert forces < 1e-5
    energy, forces = jump(potential(envelope_power=None))
    assert energy > 1e-3
    assert forces > 1e-3


def test_readout():
    """Two far molecules: energies add up; as published, energies per atom do, and forces follow."""
    one, other = molecule(1, 4), molecule(2, 5)
    together = Structure(
        np.append(one.numbers, other.numbers),
        np.concatenate([one.positions, other.positions + 40.0]),
    )
    a, b, both = outputs(potential(), [one, other, together])
    np.testing.assert_allclose(both.energy, a.energy + b.energy, rtol=0, atol=FLOAT64.energy)
    options = {"readout": "intensive", "avg_num_atoms": 4.0, "shift": 0.0}
    a, b, both = outputs(potential(**options), [one, other, together])
    expected = a.energy / 4 + b.energy / 5
    np.testing.assert_allclose(both.energy / 9, expected, rtol=0, atol=FLOAT64.energy)
    np.testing.assert_allclose(both.forces[:4], a.forces * 9 / 4, rtol=0, atol=9 * FLOAT64.forces)
    summed = outputs(potential(shift=0.0), [one])[0].energy
    np.testing.assert_allclose(a.energy, summed * 4 / np.sqrt(4.0), rtol=0, atol=FLOAT64.energy)


def test_embedding_of_all_atomic_numbers():
    """Rows go by atomic number: atoms of two elements with equal rows are the same."""
    chosen = potential(one_hot=9)
    model = chosen.model
    assert model.atom_embedding.table.shape == (9, 4)
    model.atom_embedding.table[...] = (
        model.atom_embedding.table[...].at[8 - 1].set(model.atom_embedding.table[...][6 - 1])
    )
    atoms = [Structure(np.array([z], np.int32), np.zeros((1, 3))) for z in (1, 6, 8)]
    hydrogen, carbon, oxygen = energies(
        chosen.with_state(nnx.state(model)), atoms, TINY_SHAPE
    ).tolist()
    assert carbon == oxygen
    assert abs(carbon - hydrogen) > 1e-3


def published():
    return potential_of(tdn_config(num_layers=1, **(AS_PUBLISHED | {"convolution": CPSettings()})))


def test_direct_forces():
    """They turn and are mirrored with the molecule, but are not the gradient; no stress."""
    chosen, one = published(), molecule(1)
    matrix = -random_rotation(2)
    plain, turned, solid = outputs(chosen, [one, moved(one, one.positions @ matrix.T), crystal()])
    assert np.abs(plain.forces).max() > 0.01
    expected = plain.forces @ matrix.T
    np.testing.assert_allclose(turned.forces, expected, rtol=0, atol=FLOAT64.forces)
    assert np.abs(plain.forces.sum(axis=0)).max() > 1e-6  # as no gradient would
    assert solid.stress is None
    assert chosen.direct_forces
    assert "direct forces" in repr(chosen)
    assert chosen.predict([crystal()])[0].stress is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"channels": 6, "num_heads": 4}, "channels=6 cannot be shared among num_heads=4"),
        ({"envelope_power": 1}, "envelope_power"),
        ({"convolution": {"name": "gaunt_poisson"}}, "cannot be used as convolution"),
    ],
)
def test_impossible_options_are_refused(option, message):
    with pytest.raises(MlipError, match=message):
        tdn_config(**option)


def test_impossible_models_are_refused():
    with pytest.raises(MlipError, match=r"one_hot=7 has no embedding .*\[8\]; raise it"):
        potential_of(tdn_config(one_hot=7))
    with pytest.raises(MlipError, match=r"forces=direct needs vectors; set model.lmax to 1"):
        potential_of(tdn_config(forces="direct", lmax=0))
