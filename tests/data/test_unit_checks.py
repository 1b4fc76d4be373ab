"""Wrong units and signs are recognised from real molecules; sound data are left alone."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import units

from mlip.data.checks import examine
from mlip.data.dataset import DatasetSettings, load_dataset
from mlip.data.derivative_checks import check_energy_scale
from mlip.data.e0 import make_e0
from mlip.data.pair_fit import energy_scale
from mlip.data.preflight import PreflightSettings, preflight
from mlip.data.sources.extxyz import read_extxyz
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.structure import Structure
from mlip.data.unit_checks import hydrogen_stiffness, unit_of_total_energies

KCAL = units.mol / units.kcal


@pytest.fixture(scope="module")
def molecules(root):
    frames = read_extxyz(root / "datasets" / "quickstart" / "train_300K.xyz")
    return frames[::10]


def scaled(structures, energy=1.0, forces=1.0):
    return [replace(s, energy=energy * s.energy, forces=forces * s.forces) for s in structures]


def examined(structures, choice="least_squares"):
    elements = sorted({int(z) for s in structures for z in s.numbers})
    limits = PreflightSettings().model_dump()
    e0 = make_e0(choice, structures, [])
    findings = examine(
        {"train": structures}, e0, elements, cutoff=5.0, reference="unstated", **limits
    )
    check_energy_scale(findings, "train", structures)
    return findings


def test_the_stiffness_of_bonds_to_hydrogen(molecules):
    found = hydrogen_stiffness(molecules)
    assert found.value == pytest.approx(30, abs=3)
    assert found.correlation > 0.9
    assert hydrogen_stiffness(molecules[:1]) is None  # too few bonds


def test_sound_labels_are_facts(molecules):
    findings = examined(molecules)
    assert findings.warnings == findings.fatal == []
    assert any("bonds to hydrogen have a force constant of" in fact for fact in findings.facts)
    assert any("those that the forces imply" in fact for fact in findings.facts)


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [
        (1.0, KCAL, "the forces are not in eV/Å, but probably in kcal/mol/Å; convert"),
        (KCAL, KCAL, "the forces are not in eV/Å, but probably in kcal/mol/Å; convert"),
        (1.0, units.mol / units.kJ, "probably in kJ/mol/Å; convert"),
    ],
)
def test_forces_in_kcal_or_kj_are_refused(molecules, energy, forces, message):
    (found, *_) = examined(scaled(molecules, energy, forces)).fatal
    assert message in found


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [
        (KCAL, 1.0, "those that the forces imply by .* probably have different units"),
        (1 / units.Hartree, 1.0, "those that the forces imply by .* probably have different units"),
        (1.0, -1.0, "the forces probably have the wrong sign"),
        (1.0, units.Bohr / units.Hartree, "probably not in eV/Å, but probably in Hartree/Bohr"),
        (1.0, 1 / units.Hartree, "probably not in eV/Å, but probably in Hartree/Å"),
    ],
)
def test_other_mistakes_are_warnings(molecules, energy, forces, message):
    findings = examined(scaled(molecules, energy, forces))
    assert not findings.fatal
    assert any(re.search(message, warning) for warning in findings.warnings), findings.warnings


def test_large_forces_without_hydrogen(molecules):
    bare = []
    for s in molecules:
        heavy = s.numbers > 1
        bare.append(
            Structure(s.numbers[heavy], s.positions[heavy], energy=s.energy,
                      forces=KCAL * s.forces[heavy], cell=20 * np.eye(3), pbc=np.full(3, True))
        )  # fmt: skip
    warnings = examined(bare).warnings
    assert any("are far larger than those of matter" in warning for warning in warnings)


def test_numbers_without_relation_say_nothing(molecules):
    generator = np.random.default_rng(0)
    noise = [replace(s, energy=generator.normal(), forces=generator.normal(size=s.forces.shape))
             for s in molecules]  # fmt: skip
    noise = [replace(s, forces=s.forces - s.forces.mean(axis=0)) for s in noise]
    said = examined(noise)
    assert not any("hydrogen" in fact or "imply" in fact for fact in said.facts)
    assert energy_scale(noise).explained < 0.6
    assert energy_scale(molecules[:5]) is None


@pytest.mark.parametrize("unit", ["Hartree", "kcal/mol", "kJ/mol"])
def test_total_energies_of_all_electrons(unit):
    """Water by Hartree–Fock in a large basis."""
    energy = -76.06 * {"Hartree": 1.0, "kcal/mol": 627.5, "kJ/mol": 2625.5}[unit]
    water = Structure(np.array([8, 1, 1]), np.eye(3), energy=energy)
    assert unit_of_total_energies([water]) == unit
    in_ev = replace(water, energy=-76.06 * units.Hartree)
    assert unit_of_total_energies([in_ev]) is None


def assert_sound(structures, choice="least_squares"):
    said = examined(structures, choice)
    doubted = [*said.warnings, *said.fatal]
    assert not [text for text in doubted if re.search("unit|eV/Å|sign", text)], doubted


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("pubchemqcr_mini/Data01.lmdb", {"stage": "mixing"}),
        ("pubchemqcr_mini/Data02.lmdb", {"stage": "mixing"}),
        ("oc20_mini/lmdb/train", {}),
    ],
)
def test_embedded_data_are_sound(root, file, options):
    structures = list(open_source(root / "datasets" / file, SourceSettings(**options)))
    assert_sound([s for s in structures if s.energy is not None])


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("3bpa/train_300K.xyz", {}),
        ("3bpa/train_mixedT.xyz", {}),
        ("mptrj_tp/mpf-alkali-TP.xyz", {}),
        ("nabladft/test_database.db", {}),
        ("oc20/s2ef_60.aselmdb", {}),
        ("oc22_pickled/oc22_pickle16_train.pkl", {}),
        ("oc22_pickled/ani1x_pickle16_train.pkl", {}),
        ("oc22_pickled/trans1x_pickle16_train.pkl", {}),
        (
            "solvent_xtb/solvent_xtb_train_200.xyz",
            {"keys": LabelKeys(energy="energy_xtb", forces="forces_xtb")},
        ),
    ],
)
def test_published_data_are_sound(shared, file, options):
    structures = list(open_source(shared / "data" / file, SourceSettings(**options)))
    step = max(1, len(structures) // 100)
    assert_sound([s for s in structures if len(s) > 1][::step])


def states(root, frames, **changes):
    dataset = load_dataset(
        DatasetSettings(name="q", root=root / "datasets" / "quickstart",
                        train=f"train_300K.xyz@:{frames}", valid_count=4, e0="least_squares")
    )  # fmt: skip
    train = [replace(s, **{k: v[i % len(v)] for k, v in changes.items()})
             for i, s in enumerate(dataset.train)]  # fmt: skip
    valid = [replace(s, **{k: v[0] for k, v in changes.items()}) for s in dataset.valid]
    return preflight(replace(dataset, train=train, valid=valid), 5.0).warnings


def test_charges_and_spins_that_no_model_takes(root):
    (charge,) = states(root, 12, charge=(0.0, -1.0))
    assert "differ in their charge (-1 to 0 e), which no model here takes into account" in charge
    (spin,) = states(root, 12, spin=(0.0, 2.0))
    assert "differ in their spin (0 to 2 unpaired electrons)" in spin
    (ion,) = states(root, 12, charge=(1.0,))
    assert "all frames have the charge +1 e" in ion
    assert states(root, 12, spin=(1.0,)) == ()


def test_masking_fixed_atoms_where_there_are_none(root):
    folder = root / "datasets" / "quickstart"
    dataset = load_dataset(
        DatasetSettings(name="q", root=folder, train="train_300K.xyz@:12", valid_count=4,
                        e0="least_squares", mask_fixed=True)
    )  # fmt: skip
    (warning,) = preflight(dataset, 5.0).warnings
    assert "dataset.mask_fixed=true has no effect" in warning
