import pickle
from concurrent.futures import ThreadPoolExecutor

import ase.db
import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.units import Bohr, Hartree

from mlip.data.sources.ase_database import AseDatabaseSource
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source

ATOMS = {1: -0.5, 8: -75.0}  # Hartree


def schnetpack(path, make_water, energy, **metadata):
    """Two waters with labels in the data of the rows, in atomic units."""
    water = make_water()
    water.calc = None
    with ase.db.connect(path) as database:
        for index in range(2):
            data = {"energy": np.array([energy - index]), "forces": np.full((3, 3), 0.25)}
            database.write(water, data=data)
        references = np.zeros(100)
        references[list(ATOMS)] = list(ATOMS.values())
        database.metadata = {
            "_distance_unit": "Ang",
            "_property_unit_dict": {"energy": "Hartree", "forces": "Hartree/Bohr"},
            "atomrefs": {"energy": references.tolist()},
        } | metadata
    return path


def test_units_of_the_metadata(tmp_path, make_water):
    path = schnetpack(tmp_path / "a.db", make_water, -0.35)
    structure = open_source(path)[1]
    assert structure.energy == pytest.approx(-1.35 * Hartree, abs=1e-9)
    np.testing.assert_allclose(structure.forces, 0.25 * Hartree / Bohr)
    np.testing.assert_allclose(structure.positions, make_water().positions)
    assert structure.identifier == "a.db#2"
    bohr = schnetpack(tmp_path / "b.db", make_water, -0.35, _distance_unit="Bohr")
    np.testing.assert_allclose(open_source(bohr)[0].positions, make_water().positions * Bohr)


@pytest.mark.parametrize(("stored", "shift"), [("atomisation", 0.0), ("total", -76.0)])
def test_atomisation_and_total_energies(tmp_path, make_water, stored, shift):
    path = schnetpack(tmp_path / "a.db", make_water, -0.35 + shift)
    assert open_source(path).energy_reference == stored
    for wanted, energy in (("atomisation", -0.35), ("total", -76.35)):
        source = open_source(path, SourceSettings(energy_reference=wanted))
        assert source.energy_reference == wanted
        assert source[0].energy == pytest.approx(energy * Hartree, abs=1e-9)


def test_rows_with_a_calculator(tmp_path, make_water):
    water = make_water()
    forces = water.get_forces()
    water.set_constraint(FixAtoms([1]))
    water.set_tags([0, 1, 2])
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(make_water(1))
        database.write(water, dft=-3.5)
        database.write(make_water(2))
        del database[1]
    source = open_source(tmp_path / "a.db")
    assert len(source) == 2
    structure = source[0]
    assert structure.energy == water.calc.results["energy"]
    np.testing.assert_array_equal(structure.forces, forces)
    np.testing.assert_array_equal(structure.fixed, [False, True, False])
    np.testing.assert_array_equal(structure.tags, [0, 1, 2])
    assert source.identifier(0) == "a.db#2"
    keyed = AseDatabaseSource(tmp_path / "a.db", keys=LabelKeys(energy="dft"))
    assert keyed[0].energy == -3.5
    assert keyed[1].energy is None


def test_many_threads_and_processes(tmp_path, make_water):
    source = open_source(schnetpack(tmp_path / "a.db", make_water, -0.35))
    with ThreadPoolExecutor(4) as pool:
        energies = list(pool.map(lambda index: source[index % 2].energy, range(40)))
    assert energies == energies[:2] * 20
    assert pickle.loads(pickle.dumps(source))[1].energy == energies[1]


def test_shared_nabladft(shared):
    """Beside the rows as ASE reads them."""
    path = shared / "data" / "nabladft" / "test_database.db"
    source = open_source(path)
    database = ase.db.connect(path)
    references = np.array(database.metadata["atomrefs"]["energy"])
    assert len(source) == 100
    assert source.energy_reference == "atomisation"
    total = open_source(path, SourceSettings(energy_reference="total"))
    for index in (0, 57, 99):
        row = database.get(index + 1)
        (energy,) = row.data["energy"]
        structure = source[index]
        assert structure.energy == pytest.approx(energy * Hartree, abs=1e-8)
        np.testing.assert_allclose(structure.forces, np.array(row.data["forces"]) * Hartree)
        np.testing.assert_array_equal(structure.positions, row.positions)
        atoms = references[row.numbers].sum()
        assert total[index].energy == pytest.approx((energy + atoms) * Hartree, abs=1e-6)
    np.testing.assert_array_equal(source.sizes()[:3], [len(source[i]) for i in range(3)])
