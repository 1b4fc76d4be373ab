import pickle

import numpy as np
import pytest
from ase.units import Bohr, Hartree

from mlip.data.sources.pubchemqcr import PubChemQcrSource
from mlip.data.sources.registry import SourceSettings, open_source
from tests.data.sources.written import molecule, relaxation_step, write_lmdb


def without_charges(step):
    for atom in step["coordinates"]:
        del atom["charge"]
    return step


@pytest.fixture
def path(tmp_path):
    """Two molecules; the second has no Hartree–Fock stage."""
    steps = [relaxation_step(-76.0 - index) for index in range(4)]
    smash = without_charges(relaxation_step(-80.0))
    entries = {
        b"000000962": molecule(pm3=steps[:1], hf=steps[1:2], DFT_1st=[smash, steps[2]],
                               DFT_2nd=steps[3:]),
        b"000001000": molecule(pm3=steps[:2], DFT_1st=steps[:3]),
    }  # fmt: skip
    return write_lmdb(tmp_path / "Data06.lmdb", entries)


def test_units_symbols_and_names(path):
    source = open_source(path)
    structure = source[0]
    np.testing.assert_array_equal(structure.numbers, [8, 1, 1])
    np.testing.assert_array_equal(structure.positions[1], [0.0, 0.8, -0.5])
    assert structure.energy == pytest.approx(-80.0 * Hartree, abs=1e-9)
    expected = -np.array([0.01, -0.02, 0.03]) * Hartree / Bohr
    np.testing.assert_allclose(structure.forces, np.tile(expected, (3, 1)))
    assert not structure.pbc.any()
    assert structure.identifier == "Data06.lmdb#000000962/DFT_1st/0"
    assert source.energy_reference == "total"


@pytest.mark.parametrize(
    ("stage", "energies"),
    [
        ("pm3", [-76, -76, -77]),
        ("hf", [-77]),
        ("1st", [-80, -78, -76, -77, -78]),
        ("1st_smash", [-80]),
        ("2nd", [-79]),
        ("mixing", [-80, -78, -79, -76, -77, -78]),
    ],
)
def test_stages(path, stage, energies):
    source = open_source(path, SourceSettings(stage=stage))
    np.testing.assert_allclose([s.energy / Hartree for s in source], energies)
    assert source.notes == ()


def test_a_molecule_is_a_trajectory(path):
    source = pickle.loads(pickle.dumps(PubChemQcrSource(path, stage="mixing")))
    assert [source.trajectory(index) for index in range(6)] == ["000000962"] * 3 + ["000001000"] * 3
    np.testing.assert_array_equal(source.sizes(), [3] * 6)
    assert source.num_atoms(5) == 3


def test_unusable_steps_are_left_out_and_counted(tmp_path):
    good = relaxation_step()
    short = relaxation_step()
    short["gradient"] = short["gradient"][:2]
    smaller = {"coordinates": good["coordinates"][:2], "gradient": good["gradient"][:2]}
    ghost = relaxation_step()
    ghost["coordinates"][0] = {"atom": "Xx", "x": 0.0, "y": 0.0, "z": 0.0}
    steps = [
        good,
        relaxation_step(energy=None),
        relaxation_step(gradient=None),
        short,
        relaxation_step(**smaller),
        relaxation_step(energy=float("nan")),
        ghost,
        relaxation_step(-77.0),
    ]
    path = write_lmdb(tmp_path / "Data01.lmdb", {b"000000001": molecule(DFT_1st=steps)})
    source = open_source(path)
    assert [s.energy for s in source] == [-76.0 * Hartree, -77.0 * Hartree]
    assert source.identifier(1).endswith("/7")
    notes = " ".join(source.notes)
    assert "left out 2 steps of stage 1st that lack coordinates, an energy or gradients" in notes
    assert "left out 2 steps of stage 1st that have another number" in notes
    assert "left out 1 steps of stage 1st that have a number that is not finite" in notes
    assert "left out 1 steps of stage 1st that have an unknown element" in notes


def test_a_folder_may_start_at_any_number(tmp_path, path):
    write_lmdb(tmp_path / "Data07.lmdb", {b"000000005": molecule(DFT_1st=[relaxation_step()])})
    source = open_source(tmp_path)
    assert len(source) == 6
    assert source.identifier(5) == "Data07.lmdb#000000005/DFT_1st/0"


def test_the_index_of_a_large_file_is_kept_on_disk(path, monkeypatch):
    monkeypatch.setattr("mlip.data.sources.cache.SMALL", 0)
    first = PubChemQcrSource(path)
    monkeypatch.setattr("mlip.data.sources.pubchemqcr._list_steps", None)  # not made again
    again = PubChemQcrSource(path)
    assert isinstance(again._steps, np.memmap)
    np.testing.assert_array_equal(again._steps, first._steps)
    assert again[3].energy == first[3].energy
