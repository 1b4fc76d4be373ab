import dataclasses

import numpy as np
import pytest
from ase.io import write

from mlip.data.dataset import DatasetSettings, load_dataset
from mlip.data.preflight import preflight


@pytest.fixture
def dataset(waters_file):
    return load_dataset(
        DatasetSettings(
            name="waters",
            root=waters_file.parent,
            train=waters_file.name,
            valid_count=3,
        )
    )


def altered(dataset, **changes):
    """The data set with the first training structure changed."""
    first = dataclasses.replace(dataset.train[0], **changes)
    return dataclasses.replace(dataset, train=[first, *dataset.train[1:]])


def test_clean_data_give_facts_and_no_warnings(dataset):
    report = preflight(dataset, 5.0)
    assert report.warnings == ()
    assert "train: 9 structures, 27 atoms; labelled: energy 9, forces 9, stress 0" in report.facts
    assert any("RMS force component" in line for line in report.lines())


def test_partly_missing_labels_are_counted(dataset):
    report = preflight(altered(dataset, forces=None, energy=None), 5.0)
    assert "train: 1 of 9 frames lack forces" in report.warnings
    assert "train: 1 of 9 frames lack energy" in report.warnings


def in_hartree(dataset):
    """Energies and E0 as a code with pseudopotentials would print them."""
    hartree = 27.2114
    train = [dataclasses.replace(s, energy=s.energy / hartree) for s in dataset.train]
    values = {number: value / hartree for number, value in dataset.e0.values.items()}
    e0 = dataclasses.replace(dataset.e0, values=values)
    return dataclasses.replace(dataset, train=train, e0=e0)


def bonded(dataset, energy_per_atom):
    """The data set with energies that much below those of the free atoms."""
    train = [
        dataclasses.replace(s, energy=dataset.e0.sum(s) - energy_per_atom * len(s))
        for s in dataset.train
    ]
    return dataclasses.replace(dataset, train=train)


@pytest.fixture
def valence(dataset):
    """E0 without core electrons, as from pseudopotentials."""
    e0 = dataclasses.replace(dataset.e0, values={1: -12.5, 8: -430.0}, origin="isolated atoms")
    return dataclasses.replace(dataset, e0=e0)


def test_bonds_too_weak_for_ev_are_a_warning(valence):
    strong = bonded(valence, 3.0)
    assert preflight(strong, 5.0).warnings == ()
    (warning,) = preflight(in_hartree(strong), 5.0).warnings
    assert "is on average 0.11 eV/atom although most atoms are bonded" in warning


def test_weakly_interacting_atoms_may_have_small_energies(valence):
    far = [dataclasses.replace(s, positions=3.0 * s.positions) for s in valence.train]
    weak = bonded(dataclasses.replace(valence, train=far), 0.01)
    assert not any("bonded" in warning for warning in preflight(weak, 5.0).warnings)


def test_fitted_e0_hide_the_unit(dataset):
    e0 = dataclasses.replace(dataset.e0, origin="least squares over 9 training structures")
    report = preflight(dataclasses.replace(dataset, e0=e0), 5.0)
    assert any("does not show a wrong unit of energy" in fact for fact in report.facts)


def test_doubtful_net_forces_are_a_warning(dataset):
    forces = dataset.train[0].forces + 0.05
    report = preflight(altered(dataset, forces=forces), 5.0)
    assert any("add up to zero" in warning for warning in report.warnings)


def test_forces_of_a_relaxed_molecule_are_rounding_noise(dataset):
    report = preflight(altered(dataset, forces=np.full((3, 3), 1e-3)), 5.0)
    assert report.warnings == ()


def test_the_net_force_of_a_crystal_is_not_judged(dataset):
    box = {"cell": 9 * np.eye(3), "pbc": np.ones(3, bool)}
    report = preflight(altered(dataset, forces=np.ones((3, 3)), **box), 4.0)
    assert not any("add up" in warning for warning in report.warnings)


def test_lonely_atoms_are_a_warning(dataset):
    positions = dataset.train[0].positions + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 9.0]])
    report = preflight(altered(dataset, positions=positions), 3.0)
    assert any("without a neighbour within 3 Å" in warning for warning in report.warnings)


def test_unbound_energies_are_a_warning(dataset):
    train = [dataclasses.replace(s, energy=s.energy + 30) for s in dataset.train]
    report = preflight(dataclasses.replace(dataset, train=train), 5.0)
    assert any("less stable than free atoms" in warning for warning in report.warnings)


def test_a_wide_spread_of_energies_is_a_warning(dataset):
    report = preflight(altered(dataset, energy=dataset.train[0].energy + 40), 5.0)
    assert any("spreads by" in warning for warning in report.warnings)


def test_outlying_forces_are_a_warning(dataset):
    train = dataset.train * 200  # far outliers need a large set
    outlier = dataclasses.replace(train[0], forces=train[0].forces * 1000)
    dataset = dataclasses.replace(dataset, train=[outlier, *train[1:]])
    report = preflight(dataset, 5.0)
    assert any("force components above 30 RMS" in warning for warning in report.warnings)


def test_duplicates_within_training_are_a_warning(dataset):
    twice = dataclasses.replace(dataset, train=[*dataset.train, dataset.train[4]])
    copy = dataclasses.replace(dataset.train[4], identifier="copy#0")
    report = preflight(dataclasses.replace(twice, train=[*dataset.train, copy]), 5.0)
    assert report.warnings == ("train: duplicates within the subset: copy#0",)


def test_limits_can_be_raised_on_purpose(waters_file, make_water):
    water = make_water(40)
    water.calc.results["forces"] = water.calc.results["forces"] + 1.0
    write(waters_file, water, append=True)
    dataset = load_dataset(
        DatasetSettings(
            name="field",
            root=waters_file.parent,
            train=waters_file.name,
            valid_count=3,
            preflight={"max_net_force": 2.0},
        )
    )
    preflight(dataset, 5.0)
