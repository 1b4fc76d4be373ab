"""The error tables and arrays of an evaluation, against their definitions."""

import dataclasses
import json
import re

import numpy as np
import pytest

from mlip.data.frames import Frames, Part
from mlip.data.sources.source import BadRecordError
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.training.evaluate import evaluate_subsets
from tests.support.sources import MadeUp
from tests.support.training import E0, ELEMENTS, PairModel, Undifferentiable, clusters


@pytest.fixture(scope="module")
def potential():
    return Potential(PairModel(dtype="float64"), elements=ELEMENTS, e0=E0, precision="float64")


@pytest.fixture(scope="module")
def structures():
    small, large = clusters(2, seed=3, atoms=4), clusters(3, seed=4, atoms=6)
    return [*small, *large]


def test_errors_of_energy_and_forces(potential, structures):
    predictions = potential.predict(structures)
    energy = np.array([p.energy - s.energy for p, s in zip(predictions, structures, strict=True)])
    sizes = np.array([len(s) for s in structures])
    forces = np.concatenate(
        [p.forces - s.forces for p, s in zip(predictions, structures, strict=True)]
    )
    numbers = np.concatenate([s.numbers for s in structures])

    found = evaluate_subsets(potential, {"test": structures}).summary["test"]
    assert (found["num_structures"], found["num_atoms"]) == (5, 26)
    expected = {
        "energy_mae_mev_per_atom": 1e3 * np.mean(np.abs(energy / sizes)),
        "energy_rmse_mev_per_atom": 1e3 * np.sqrt(np.mean((energy / sizes) ** 2)),
        "energy_rmse_mev": 1e3 * np.sqrt(np.mean(energy**2)),
        "forces_mae_mev_per_a": 1e3 * np.mean(np.abs(forces)),
        "forces_rmse_mev_per_a": 1e3 * np.sqrt(np.mean(forces**2)),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert "stress_rmse_mev_per_a3" not in found
    hydrogen = found["forces_by_element"]["H"]
    assert hydrogen["num_atoms"] == 13
    assert hydrogen["rmse_mev_per_a"] == pytest.approx(
        1e3 * np.sqrt(np.mean(forces[numbers == 1] ** 2))
    )


def test_a_stream_has_the_errors_of_all_its_frames(potential, monkeypatch):
    monkeypatch.setattr("mlip.training.evaluate.CHUNK", 4)
    monkeypatch.setattr("mlip.training.evaluate.KEPT", 6)
    frames = Frames([Part(MadeUp(11, bad=(2,)), range(11))], skip_bad=True)
    found = evaluate_subsets(potential, {"s": frames})
    structures = [structure for index, structure in enumerate(MadeUp(11)) if index != 2]
    expected = evaluate_subsets(potential, {"s": structures}).summary["s"]
    streamed = found.summary["s"]
    assert streamed.pop("skipped_records") == len(streamed.pop("faults")) == 1
    assert streamed.pop("forces_by_element").keys() == expected.pop("forces_by_element").keys()
    assert streamed == pytest.approx(expected)
    assert 6 <= len(found.arrays["s/energy"]) < 10
    nothing = Frames([Part(MadeUp(5, bad=tuple(range(5))), range(5))], skip_bad=True)
    with pytest.raises(MlipError, match="none of the 5 records of the subset 'cold' can be used"):
        evaluate_subsets(potential, {"cold": nothing})


class Faulty(MadeUp):
    """Its record 3 has an element that the model does not know, its record 7 atoms on one spot."""

    def __getitem__(self, index):
        structure = super().__getitem__(index)
        numbers, positions = structure.numbers.copy(), structure.positions.copy()
        if index == 3:
            numbers[0] = 16
        if index == 7:
            positions[1] = positions[0]
        return dataclasses.replace(structure, numbers=numbers, positions=positions)


def test_frames_of_a_stream_that_the_model_cannot_take_are_left_out_on_request(potential):
    parts = [Part(Faulty(11, bad=(2,)), range(11))]
    found = evaluate_subsets(potential, {"s": Frames(parts, skip_bad=True)}).summary["s"]
    assert found.pop("skipped_records") == 3
    faults = " | ".join(sorted(found.pop("faults")))
    assert re.search(r"made_up#2: .* made_up#3: element S is .* made_up#7: atoms .* apart", faults)
    usable = [s for index, s in enumerate(MadeUp(11)) if index not in (2, 3, 7)]
    expected = evaluate_subsets(potential, {"s": usable}).summary["s"]
    assert found.pop("forces_by_element").keys() == expected.pop("forces_by_element").keys()
    assert found == pytest.approx(expected)
    with pytest.raises(BadRecordError, match=r"made_up#\d: .*set dataset\.on_bad_record=skip"):
        evaluate_subsets(potential, {"s": Frames([Part(Faulty(11), range(11))])})


def test_only_labelled_structures_count(potential, structures):
    bare = [dataclasses.replace(structures[0], energy=None, forces=None), *structures[2:]]
    found = evaluate_subsets(potential, {"bare": bare, "rest": structures[2:]})
    summary = found.summary
    assert summary["bare"]["num_structures"] == 4
    for key in ("energy_rmse_mev", "forces_mae_mev_per_a", "forces_by_element"):
        assert summary["bare"][key] == summary["rest"][key]
    assert np.isnan(found.arrays["bare/energy_reference"][0])
    assert np.all(np.isnan(found.arrays["bare/forces_reference"][:4]))


def test_a_subset_without_any_label_has_no_errors(potential, structures):
    bare = [dataclasses.replace(structures[0], energy=None, forces=None)]
    found = evaluate_subsets(potential, {"bare": bare}).summary["bare"]
    assert found == {"num_structures": 1, "num_atoms": 4}


def test_forces_that_nothing_is_compared_with_are_not_computed(potential, structures):
    model = Undifferentiable(dtype="float64")
    other = Potential(model, elements=ELEMENTS, e0=E0, precision="float64")
    with pytest.raises(AssertionError, match="no derivative"):
        evaluate_subsets(other, {"test": structures})
    energies = [dataclasses.replace(s, forces=None) for s in structures]
    found = evaluate_subsets(other, {"test": energies})
    expected = evaluate_subsets(potential, {"test": structures})
    kept = [key for key in expected.summary["test"] if "forces" not in key]
    assert found.summary["test"] == {
        key: pytest.approx(expected.summary["test"][key]) for key in kept
    }
    assert found.arrays["test/forces"].shape == expected.arrays["test/forces"].shape
    assert np.all(np.isnan(found.arrays["test/forces"]))


def test_energies_alone_are_those_with_forces(potential, structures):
    alone = potential.predict(structures, energy_only=True)
    assert all(one.forces is None and one.stress is None for one in alone)
    both = potential.predict(structures)
    assert [one.energy for one in alone] == pytest.approx([one.energy for one in both], rel=1e-14)
    assert all(np.any(one.forces != 0.0) for one in both)


def test_stress_errors_of_periodic_structures(potential, structures):
    first = structures[0]
    crystal = dataclasses.replace(
        first, cell=6.0 * np.eye(3), pbc=np.ones(3, bool), stress=np.zeros((3, 3))
    )
    found = evaluate_subsets(potential, {"mixed": [crystal, first]}).summary["mixed"]
    stress = potential.predict([crystal])[0].stress
    assert found["stress_mae_mev_per_a3"] == pytest.approx(1e3 * np.mean(np.abs(stress)))
    assert found["stress_rmse_mev_per_a3"] == pytest.approx(1e3 * np.sqrt(np.mean(stress**2)))


def test_files(potential, structures, tmp_path):
    found = evaluate_subsets(potential, {"300K": structures[:2], "600K": structures[2:]})
    found.write(tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found.summary
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert arrays["600K/forces"].shape == (18, 3)
        assert arrays["300K/energy"].dtype == np.float64
        e0 = arrays["300K/e0"]
    assert e0 == pytest.approx([2 * E0[8] + 2 * E0[1]] * 2)


def test_an_empty_subset_is_named(potential):
    with pytest.raises(MlipError, match="subset 'cold' has no structures"):
        evaluate_subsets(potential, {"cold": []})


def test_a_prediction_that_is_not_finite_names_the_frame(structures):
    model = PairModel(dtype="float64")
    model.readout[...] = model.readout[...] * np.inf
    potential = Potential(model, elements=ELEMENTS, e0=E0, precision="float64")
    with pytest.raises(MlipError, match=r"toy.xyz#0: the prediction is not finite"):
        evaluate_subsets(potential, {"test": structures[:1]})
