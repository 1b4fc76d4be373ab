"""The loss against its definition in numpy, on padded batches with missing labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.data.collate import BatchShape
from mlip.errors import MlipError
from mlip.potential import Output
from mlip.training.loss import LossSettings, LossWeights, loss
from tests.support.training import batches, clusters
from tests.tolerances import FLOAT64

ENERGY_ERRORS = np.array([0.3, -0.7, 0.2])
SIZES = np.array([3, 5, 6])


@pytest.fixture(scope="module")
def structures():
    return [clusters(1, seed=n, atoms=int(n))[0] for n in SIZES]


def shifted(structures, shape=None):
    """A batch, and an output off by known errors: ENERGY_ERRORS and 0.1, 0.2, … on the forces."""
    given = {} if shape is None else {"shapes": [shape]}
    source = batches(structures, shuffle=False, batch_size=3, dtype="float64", **given)
    batch = next(source.epoch(0))
    graph, labels = batch.graph, batch.labels
    count = len(structures)
    order = batch.indices
    energy = np.array(labels.energy)
    energy[:count] += ENERGY_ERRORS[order]
    forces = np.array(labels.forces)
    atoms = int(graph.node_mask.sum())
    forces[:atoms] += force_errors(structures, order)
    zeros = np.zeros(len(forces))
    output = Output(zeros, energy, forces, np.array(labels.stress))
    return Output(*map(jnp.asarray, output)), graph, labels


def force_errors(structures, order):
    return np.concatenate(
        [0.1 * (i + 1) + 0.01 * np.arange(3 * len(structures[i])).reshape(-1, 3) for i in order]
    )


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("per_atom_squared", np.mean((ENERGY_ERRORS / SIZES) ** 2)),
        ("squared_per_atom", np.mean(ENERGY_ERRORS**2 / SIZES)),
        ("squared", np.mean(ENERGY_ERRORS**2)),
    ],
)
def test_energy_conventions(structures, convention, expected):
    settings = LossSettings(energy_weight=2.0, forces_weight=0.0, energy_convention=convention)
    value, _ = loss(*shifted(structures), settings)
    assert float(value) == pytest.approx(2.0 * expected, rel=FLOAT64.relative)


@pytest.mark.parametrize(
    ("kind", "penalty"),
    [
        ("mse", lambda x: x**2),
        ("l1", np.abs),
        ("huber", lambda x: np.where(np.abs(x) < 0.25, x**2 / 2, 0.25 * (np.abs(x) - 0.125))),
    ],
)
def test_force_penalties_are_means_over_components(structures, kind, penalty):
    delta = {"huber_delta": 0.25} if kind == "huber" else {}
    settings = LossSettings(kind=kind, energy_weight=0.0, forces_weight=3.0, **delta)
    value, _ = loss(*shifted(structures), settings)
    expected = 3.0 * np.mean(penalty(force_errors(structures, range(3))))
    assert float(value) == pytest.approx(expected, rel=FLOAT64.relative)


def test_force_penalties_by_structure(structures):
    """Of the root mean square over its labelled atoms; a structure that is met needs no root."""
    settings = LossSettings(kind="l1", energy_weight=0.0, forces_convention="per_structure")
    output, graph, labels = shifted(structures)
    weights = np.array(labels.forces_weight)
    weights[np.flatnonzero(graph.node_graph == 2)[0]] = 0.0  # as of a fixed atom
    labels = dataclasses.replace(labels, forces_weight=jnp.asarray(weights))
    value, _ = loss(output, graph, labels, settings)
    errors, of = np.asarray(output.forces - labels.forces), np.asarray(graph.node_graph)
    counted = np.asarray(labels.forces_weight) > 0
    expected = [
        np.sqrt(np.mean(np.sum(errors[counted & (of == g)] ** 2, axis=1))) for g in range(3)
    ]
    assert float(value) == pytest.approx(100.0 * np.mean(expected), rel=FLOAT64.relative)

    def of_forces(forces):
        return loss(output._replace(forces=forces), graph, labels, settings)[0]

    met = jnp.where((of == 0)[:, None], labels.forces, output.forces)
    assert np.all(np.isfinite(jax.grad(of_forces)(met)))


@pytest.mark.parametrize("forces_convention", ["per_component", "per_structure"])
def test_padding_changes_nothing(structures, forces_convention):
    settings = LossSettings(forces_convention=forces_convention)
    tight, _ = loss(*shifted(structures, BatchShape(3, 14, 40, 4)), settings)
    roomy, _ = loss(*shifted(structures, BatchShape(9, 60, 90, 4)), settings)
    assert float(roomy) == pytest.approx(float(tight), rel=FLOAT64.relative)


def test_a_missing_label_adds_nothing(structures):
    bare = [dataclasses.replace(s, energy=None, forces=None) for s in structures[:2]]
    output, graph, labels = shifted([*bare, structures[2]])
    value, metrics = loss(output, graph, labels, LossSettings(energy_weight=1.0, forces_weight=0.0))
    assert float(value) == pytest.approx(0.2**2 / 6 / 3, rel=FLOAT64.relative)
    assert float(metrics.energy_count) == 1
    assert float(metrics.forces_count) == 18


def test_atoms_left_out_do_not_count_in_the_mean_but_missing_labels_do(structures):
    fixed = np.arange(len(structures[1])) < 2
    frames = [dataclasses.replace(structures[0], forces=None), *structures[1:]]
    output, graph, labels = shifted(frames)
    weights = np.array(labels.forces_weight)
    weights[np.flatnonzero(graph.node_graph == 1)[fixed]] = 0.0
    labels = dataclasses.replace(labels, forces_weight=jnp.asarray(weights))
    value, _ = loss(output, graph, labels, LossSettings(energy_weight=0.0, forces_weight=1.0))
    errors = np.asarray(output.forces - labels.forces)[weights > 0]
    atoms = sum(map(len, frames)) - 2
    assert float(value) == pytest.approx(np.sum(errors**2) / (3 * atoms), rel=FLOAT64.relative)


def test_stress_term(structures):
    output, graph, labels = shifted(structures)
    labels = dataclasses.replace(labels, stress_weight=np.ones_like(labels.stress_weight))
    output = output._replace(stress=output.stress + 0.5)
    settings = LossSettings(energy_weight=0.0, forces_weight=0.0, stress_weight=4.0)
    value, metrics = loss(output, graph, labels, settings)
    assert float(value) == pytest.approx(1.0, rel=FLOAT64.relative)
    assert float(metrics.stress_count) == 27


def test_structure_weight_scales_its_terms(structures):
    settings = LossSettings()
    plain, _ = loss(*shifted(structures), settings)
    doubled, _ = loss(*shifted([dataclasses.replace(s, weight=2.0) for s in structures]), settings)
    assert float(doubled) == pytest.approx(2.0 * float(plain), rel=FLOAT64.relative)


def test_weights_of_a_stage_replace_those_of_the_settings(structures):
    arguments = shifted(structures)
    changed, _ = loss(*arguments, LossSettings(), LossWeights(10.0, None, None))
    expected, _ = loss(*arguments, LossSettings(energy_weight=10.0, forces_weight=0.0))
    assert float(changed) == pytest.approx(float(expected), rel=FLOAT64.relative)


def test_the_structure_that_is_not_finite_is_pointed_out(structures):
    output, graph, labels = shifted(structures)
    atom = int(np.flatnonzero(graph.node_graph == 1)[0])
    forces = output.forces.at[atom, 1].set(jnp.nan)
    stress = output.stress.at[1, 0, 2].set(jnp.inf)
    for wrong in (output._replace(forces=forces), output._replace(stress=stress)):
        _, metrics = loss(wrong, graph, labels, LossSettings())
        assert np.asarray(metrics.bad).tolist()[:3] == [False, True, False]


def test_all_weights_zero_is_refused():
    with pytest.raises(ValueError, match="all zero"):
        LossSettings(energy_weight=0.0, forces_weight=0.0)


def test_an_output_of_energies_alone(structures):
    """It has the errors of its energies; a weight of the forces would have nothing to act on."""
    output, graph, labels = shifted(structures)
    alone = output._replace(forces=None, stress=None)
    weights = LossWeights(1.0, None, None)
    expected, with_forces = loss(output, graph, labels, LossSettings(), weights)
    value, metrics = loss(alone, graph, labels, LossSettings(), weights)
    assert float(value) == float(expected)
    assert float(metrics.energy) == float(with_forces.energy) > 0
    assert float(with_forces.forces_count) > 0
    assert float(metrics.forces_count) == float(metrics.forces) == 0
    assert not np.any(metrics.bad)
    with pytest.raises(ValueError, match="were not computed"):
        loss(alone, graph, labels, LossSettings())


def test_a_model_without_stress(structures):
    """Its labels are no part of the errors; a weight for them is refused."""
    output, graph, labels = shifted(structures)
    labels = dataclasses.replace(labels, stress_weight=jnp.ones_like(labels.stress_weight))
    without = output._replace(stress=None)
    weights = LossWeights(1.0, 1.0, None)
    expected, with_stress = loss(output, graph, labels, LossSettings(), weights)
    value, metrics = loss(without, graph, labels, LossSettings(), weights)
    assert float(value) == float(expected)
    assert float(with_stress.stress_count) > 0
    assert float(metrics.stress_count) == float(metrics.stress) == 0
    assert not np.any(metrics.bad)
    with pytest.raises(MlipError, match=r"weight for the stress.*set loss.stress_weight=0"):
        loss(without, graph, labels, LossSettings(stress_weight=1.0))
