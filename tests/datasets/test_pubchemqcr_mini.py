import gzip
import importlib
import pickle
from itertools import pairwise

import numpy as np
import pytest
from ase.io import read
from ase.units import Bohr, Hartree

from mlip.data.sources.registry import SourceSettings, open_source

STAGES = ("pm3", "hf", "DFT_1st", "DFT_2nd")
SHARDS = ("Data01.lmdb", "Data02.lmdb", "Data03.lmdb")


@pytest.fixture(scope="module")
def folder(root):
    return root / "datasets" / "pubchemqcr_mini"


@pytest.fixture(scope="module")
def shards(folder, entries):
    """Key to record, by shard."""
    return {
        name: {key: pickle.loads(gzip.decompress(value)) for key, value in entries(folder / name)}
        for name in SHARDS
    }


@pytest.fixture(scope="module")
def stages(shards):
    """(key, stage, steps) of all stages that were computed."""
    return [
        (key, stage, record[stage])
        for records in shards.values()
        for key, record in records.items()
        for stage in STAGES
        if record[stage] is not None
    ]


def vectors(atoms, names):
    return np.array([[atom[name] for name in names] for atom in atoms])


def elements(step):
    return [atom["atom"].capitalize() for atom in step["coordinates"]]


def test_counts_are_those_of_the_readme(folder, shards, table):
    rows = table(folder / "README.md")
    for name, records in shards.items():
        counts = [
            sum(len(record[stage] or ()) for record in records.values()) for stage in STAGES[1:]
        ]
        assert [int(cell) for cell in rows[name][:4]] == [len(records), *counts]


def test_no_molecule_is_in_two_shards(shards):
    keys = [key for records in shards.values() for key in records]
    assert len(keys) == len(set(keys)) == 24
    assert all(len(key) == 9 and key.isdigit() for key in keys)


def test_records_have_the_published_layout(shards, stages):
    assert all(
        tuple(record) == STAGES for records in shards.values() for record in records.values()
    )
    for _, _, steps in stages:
        for step in steps:
            assert set(step) == {"coordinates", "energy", "gradient"}
            assert type(step["energy"]) is float
            assert elements(step) == [atom["atom"].capitalize() for atom in step["gradient"]]
            for atom in (*step["coordinates"], *step["gradient"]):
                numbers = [value for name, value in atom.items() if name != "atom"]
                assert {type(value) for value in numbers} == {float}


def test_both_forms_of_the_first_stage_occur(stages):
    with_charge = {
        stage: {
            "charge" in steps[0]["coordinates"][0] for _, name, steps in stages if name == stage
        }
        for stage in STAGES[1:]
    }
    assert with_charge == {"hf": {True}, "DFT_1st": {True, False}, "DFT_2nd": {True}}


def test_stages_relax_and_go_on_where_the_last_one_ended(shards, stages):
    for key, stage, steps in stages:
        assert steps[-1]["energy"] <= steps[0]["energy"], (key, stage)
        assert min(step["energy"] for step in steps) > steps[-1]["energy"] - 1e-5
    for records in shards.values():
        for record in records.values():
            done = [record[stage] for stage in STAGES if record[stage] is not None]
            assert done[-1] is record["DFT_2nd"]
            for before, after in pairwise(done):
                np.testing.assert_array_equal(
                    vectors(before[-1]["coordinates"], "xyz"),
                    vectors(after[0]["coordinates"], "xyz"),
                )
            largest = abs(vectors(done[-1][-1]["gradient"], ("dx", "dy", "dz"))).max()
            assert largest * Hartree / Bohr < 0.03


def test_gradients_are_those_of_isolated_molecules(stages):
    """No net force, no net torque."""
    for key, stage, steps in stages:
        for step in steps:
            positions = vectors(step["coordinates"], "xyz")
            gradient = vectors(step["gradient"], ("dx", "dy", "dz"))
            assert abs(gradient.sum(axis=0)).max() < 1e-8, (key, stage)
            centred = positions - positions.mean(axis=0)
            # The grid of the functional turns with the molecule only nearly.
            assert abs(np.cross(centred, gradient).sum(axis=0)).max() < 1e-3, (key, stage)


def test_gradients_predict_the_change_of_energy(stages):
    """By the trapezoidal rule, which small last steps follow."""
    for key, stage, steps in stages:
        first, second = steps[-2:]
        moved = vectors(second["coordinates"], "xyz") - vectors(first["coordinates"], "xyz")
        mean = sum(vectors(step["gradient"], ("dx", "dy", "dz")) for step in (first, second)) / 2
        predicted = float((mean * moved).sum() / Bohr)
        change = second["energy"] - first["energy"]
        assert change == pytest.approx(predicted, rel=0.05, abs=2e-6), (key, stage)


def test_atomisation_energies_are_chemical(folder, stages):
    """Organic molecules are bound by 3 to 6 eV an atom."""
    isolated = {
        atom.get_chemical_formula(): atom.get_potential_energy()
        for atom in read(folder / "isolated_atoms.xyz", ":")
    }
    assert {symbol for _, _, steps in stages for symbol in elements(steps[0])} == set(isolated)
    for key, stage, steps in stages:
        if stage == "DFT_2nd":
            atoms = elements(steps[-1])
            bound = sum(isolated[s] for s in atoms) - steps[-1]["energy"] * Hartree
            assert 3 < bound / len(atoms) < 6, key


def test_the_script_gives_the_labels(root, shards, monkeypatch):
    """Start and end of a relaxation; the optimiser's way between them follows from the labels."""
    pytest.importorskip("pyscf", reason="needs the extra: datasets")
    monkeypatch.syspath_prepend(root / "scripts")
    script = importlib.import_module("make_pubchemqcr_mini")
    entry = next(one for one in script.SHARDS["Data01.lmdb"] if one.g2 == "CH3OH")
    written = shards["Data01.lmdb"][b"%09d" % entry.cid]
    atoms = script.start(entry)
    first = vectors(written["DFT_1st"][0]["coordinates"], "xyz")
    np.testing.assert_array_equal(np.round(atoms.positions, script.DECIMALS), first)
    for step in (written["DFT_1st"][0], written["DFT_2nd"][-1]):
        atoms.positions = vectors(step["coordinates"], "xyz")
        atoms.calc = script.Gradients(script.b3lyp)
        atoms.get_potential_energy()
        assert atoms.calc.results["energy_hartree"] == pytest.approx(step["energy"], abs=1e-7)
        gradient = vectors(step["gradient"], ("dx", "dy", "dz"))
        np.testing.assert_allclose(atoms.calc.results["gradient"], gradient, atol=1e-5)


def test_the_reader_finds_every_step(folder, shards):
    for stage, phases in (("hf", ["hf"]), ("mixing", ["DFT_1st", "DFT_2nd"])):
        source = open_source(folder, SourceSettings(format="pubchemqcr", stage=stage))
        expected = [
            step
            for records in shards.values()
            for _, record in sorted(records.items())
            for phase in phases
            for step in record[phase] or ()
        ]
        assert len(source) == len(expected)
        for index in (0, len(expected) // 2, len(expected) - 1):
            structure, step = source[index], expected[index]
            assert structure.energy == pytest.approx(step["energy"] * Hartree, rel=1e-14)
            np.testing.assert_array_equal(structure.positions, vectors(step["coordinates"], "xyz"))
            forces = vectors(step["gradient"], ("dx", "dy", "dz")) * (-Hartree / Bohr)
            np.testing.assert_allclose(structure.forces, forces, atol=1e-12)
