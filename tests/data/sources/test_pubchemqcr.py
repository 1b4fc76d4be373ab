import pickle

import numpy as np
import pytest
from ase.units import Bohr, Hartree

from mlip.data.sources import pubchemqcr_index as module
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.pubchemqcr import PubChemQcrSource
from mlip.data.sources.pubchemqcr_molecule import steps_of
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.tally import Tally
from tests.data.sources.written import molecule, relaxation_step, write_lmdb

pytest_plugins = ("tests.support.progress",)


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


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_a_label_without_a_key_is_not_read(path, label):
    source = open_source(path, SourceSettings(keys=LabelKeys(**{label: None})))
    read = {name for name in ("energy", "forces") if getattr(source[0], name) is not None}
    assert read == {"energy", "forces"} - {label}
    assert (source.tally().fit_e0() is None) == (label == "energy")


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
    monkeypatch.setattr("mlip.data.sources.pubchemqcr_index.steps_of", None)  # not made again
    again = PubChemQcrSource(path)
    assert isinstance(again._steps, np.memmap)
    np.testing.assert_array_equal(again._steps, first._steps)
    assert again[3].energy == first[3].energy
    assert again.tally().to_json() == first.tally().to_json()


@pytest.fixture
def four(tmp_path, monkeypatch):
    """Four molecules, each a piece of the index, which is kept on disk."""
    monkeypatch.setattr("mlip.data.sources.cache.SMALL", 0)
    monkeypatch.setattr(module, "MOLECULES", 1)
    bad = relaxation_step(energy=None)
    steps = [[relaxation_step(-70.0 - number), bad] for number in range(4)]
    entries = {b"%09d" % number: molecule(DFT_1st=steps[number]) for number in range(4)}
    return write_lmdb(tmp_path / "Data01.lmdb", entries)


def test_the_index_is_made_by_worker_processes_with_a_bar(four, shown, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    source = PubChemQcrSource(four)
    assert shown == [("index of Data01.lmdb", 4), 1, 2, 3, 4]
    assert [s.energy for s in source] == [(-70.0 - n) * Hartree for n in range(4)]
    assert [source.trajectory(index) for index in range(4)] == [f"{n:09d}" for n in range(4)]
    assert "left out 4 steps of stage 1st that lack" in source.notes[0]


def test_an_interrupted_index_goes_on_where_it_stopped(four, cache, monkeypatch):
    decoded = []

    def interrupted(data, stage):
        decoded.append(data)
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return steps_of(data, stage)

    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(module, "steps_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PubChemQcrSource(four)
    source = PubChemQcrSource(four)
    assert len(decoded) == 3 + 2  # the third again, and the fourth
    assert len(source) == 4
    assert len(list(cache.glob("*/*"))) == 1  # the pieces have gone


def test_the_index_knows_elements_and_e0_of_all_steps(path):
    source = open_source(path, SourceSettings(stage="pm3"))
    assert source.elements == {1, 8}
    tally = Tally()
    tally.add(list(source))
    assert source.tally().to_json() == tally.to_json()
