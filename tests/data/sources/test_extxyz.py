import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress

from mlip.data.sources import labels
from mlip.data.sources.extxyz import ExtxyzSource, LabelKeys, read_extxyz
from mlip.errors import MlipError

STRESS = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]) * 1e-2


def crystal(**info) -> Atoms:
    return Atoms("H", [[0, 0, 0]], cell=[2, 3, 4], pbc=True, info=info)


def stress_only(path, keys=None):
    keys = keys or LabelKeys(energy=None, forces=None)
    return read_extxyz(path, keys=keys)[0].stress


def test_reads_what_ase_wrote(waters_file):
    structures = read_extxyz(waters_file)
    frames = read(waters_file, ":")
    assert len(structures) == len(frames) == 14
    for structure, frame in zip(structures, frames, strict=True):
        assert structure.energy == frame.get_potential_energy()
        np.testing.assert_array_equal(structure.forces, frame.get_forces())
        np.testing.assert_array_equal(structure.positions, frame.positions)
    assert structures[0].group == "IsolatedAtom"
    assert structures[5].identifier == "waters.xyz#5"
    assert structures[5].stress is None


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("trajectory=000000176", "000000176"),
        ("trajectory=1_0 sid=3", "1_0"),
        ("sid = 7e5", "7e5"),
        ('title="trajectory=2 or so" sid="walk \\"1\\""', 'walk "1"'),
        ('stress="1 2 3" trajectory={a b} bare', "a b"),
        ("trajectory", "a.xyz#0"),
        ("nothing=here", "a.xyz#0"),
    ],
)
def test_a_trajectory_has_the_name_that_is_written(tmp_path, comment, name):
    (tmp_path / "a.xyz").write_text(f"1\nProperties=species:S:1:pos:R:3 {comment}\nH 0.0 0.0 0.0\n")
    source = ExtxyzSource(tmp_path / "a.xyz", keys=LabelKeys(energy=None, forces=None))
    assert source.trajectory(0) == name


def test_labels_under_other_keys(tmp_path, make_water):
    water = make_water(dft_energy=-5.0)
    water.arrays["REF_forces"] = np.arange(9.0).reshape(3, 3)
    write(tmp_path / "a.extxyz", water)
    keys = LabelKeys(energy="dft_energy", forces="REF_forces")
    structure = read_extxyz(tmp_path / "a.extxyz", keys=keys)[0]
    assert structure.energy == -5.0
    np.testing.assert_array_equal(structure.forces, np.arange(9.0).reshape(3, 3))


def test_forces_on_constrained_atoms_are_kept(tmp_path, make_water):
    water = make_water()
    forces = water.get_forces()
    water.set_constraint(FixAtoms([0]))
    write(tmp_path / "a.xyz", water, columns=["symbols", "positions", "forces", "move_mask"])
    structure = read_extxyz(tmp_path / "a.xyz")[0]
    np.testing.assert_allclose(structure.forces, forces, atol=1e-8)
    assert abs(structure.forces[0]).max() > 0
    np.testing.assert_array_equal(structure.fixed, [True, False, False])


def test_atoms_held_in_some_directions_count_as_free_which_is_said_once(
    tmp_path, make_water, monkeypatch
):
    said = []
    monkeypatch.setattr(labels.logger, "warning", lambda text, *values: said.append(text % values))
    water = make_water()
    water.set_constraint([FixCartesian(0), FixCartesian(1, mask=(False, False, True))])
    columns = ["symbols", "positions", "forces", "move_mask"]
    write(tmp_path / "slab.xyz", [water, water], columns=columns)
    structures = read_extxyz(tmp_path / "slab.xyz")
    for structure in structures:
        np.testing.assert_array_equal(structure.fixed, [True, False, False])
    (warning,) = said
    assert warning.startswith("slab.xyz: constraints by FixCartesian are ignored")


def test_missing_labels_are_absent_not_zero(tmp_path, make_water):
    bare = make_water(1)
    bare.calc = None
    write(tmp_path / "a.xyz", [make_water(0), bare])
    structure = read_extxyz(tmp_path / "a.xyz")[1]
    assert structure.energy is None
    assert structure.forces is None


def test_charge_spin_and_group(tmp_path, make_water):
    write(tmp_path / "a.xyz", make_water(charge=-1, spin=1, config_type="hot"))
    structure = read_extxyz(tmp_path / "a.xyz")[0]
    assert (structure.charge, structure.spin, structure.group) == (-1.0, 1.0, "hot")


def test_energy_only_and_forces_only(tmp_path, make_water):
    write(tmp_path / "a.xyz", make_water())
    assert read_extxyz(tmp_path / "a.xyz", keys=LabelKeys(forces=None))[0].forces is None
    assert read_extxyz(tmp_path / "a.xyz", keys=LabelKeys(energy=None))[0].energy is None


def test_stress_from_a_calculator_keeps_ase_sign_and_order(tmp_path):
    atoms = crystal()
    voigt = np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]) * 1e-2
    atoms.calc = SinglePointCalculator(atoms, stress=voigt)
    write(tmp_path / "a.xyz", atoms)
    np.testing.assert_allclose(stress_only(tmp_path / "a.xyz"), STRESS, atol=1e-12)


@pytest.mark.parametrize("value", [STRESS, STRESS.ravel(), [0.01, 0.02, 0.03, 0.003, 0.002, 0.001]])
def test_stress_under_another_key_in_any_layout(tmp_path, value):
    write(tmp_path / "a.xyz", crystal(REF_stress=np.array(value)))
    keys = LabelKeys(energy=None, forces=None, stress="REF_stress")
    np.testing.assert_allclose(stress_only(tmp_path / "a.xyz", keys), STRESS, atol=1e-12)


def test_stress_is_minus_virials_over_volume(tmp_path):
    write(tmp_path / "a.xyz", crystal(REF_virials=-24.0 * STRESS))
    keys = LabelKeys(energy=None, forces=None, virials="REF_virials")
    np.testing.assert_allclose(stress_only(tmp_path / "a.xyz", keys), STRESS, atol=1e-12)


def test_stress_and_virials_must_agree(tmp_path):
    write(tmp_path / "a.xyz", crystal(s=STRESS, v=24.0 * STRESS))
    keys = LabelKeys(energy=None, forces=None, stress="s", virials="v")
    with pytest.raises(MlipError, match=r"a\.xyz#0: s and −v/volume differ"):
        read_extxyz(tmp_path / "a.xyz", keys=keys)


def test_an_asymmetric_stress_is_refused(tmp_path):
    write(tmp_path / "a.xyz", crystal(s=np.arange(9.0).reshape(3, 3)))
    keys = LabelKeys(energy=None, forces=None, stress="s")
    with pytest.raises(MlipError, match="not symmetric"):
        read_extxyz(tmp_path / "a.xyz", keys=keys)


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_stress_without_a_volume_is_not_read(tmp_path, pbc):
    atoms = crystal(s=STRESS)
    atoms.pbc = pbc
    write(tmp_path / "a.xyz", atoms)
    keys = LabelKeys(energy=None, forces=None, stress="s")
    assert stress_only(tmp_path / "a.xyz", keys) is None


def test_a_lattice_without_periodicity_is_a_molecule(tmp_path, make_water):
    water = make_water()
    water.cell = [50, 50, 50]
    write(tmp_path / "a.xyz", water)
    assert not read_extxyz(tmp_path / "a.xyz")[0].cell.any()


def test_mixed_periodicity(tmp_path, make_water):
    water = make_water()
    water.cell = [5, 5, 20]
    water.pbc = [True, True, False]
    write(tmp_path / "a.xyz", water)
    structure = read_extxyz(tmp_path / "a.xyz")[0]
    np.testing.assert_array_equal(structure.pbc, [True, True, False])
    np.testing.assert_array_equal(structure.cell, np.diag([5.0, 5.0, 20.0]))


def test_shared_solvent_clusters(shared):
    keys = LabelKeys(energy="energy_xtb", forces="forces_xtb")
    path = shared / "data" / "solvent_xtb" / "solvent_xtb_train_20.xyz"
    structures = read_extxyz(path, keys=keys)
    isolated = {int(s.numbers[0]) for s in structures if s.group == "IsolatedAtom"}
    assert isolated == {1, 6, 8}
    assert all(s.forces is not None and s.energy is not None for s in structures)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("3bpa/train_300K", ""), ("3bpa/train_mixedT", ""), ("mptrj_tp/mpf-alkali-TP", ""),
     ("solvent_xtb/solvent_xtb_train_200", "_xtb"), ("solvent_xtb/solvent_xtb_test_300", "_xtb")],
)  # fmt: skip
def test_shared_files_as_ase_reads_them(shared, name, suffix):
    path = shared / "data" / f"{name}.xyz"
    source = ExtxyzSource(path, keys=LabelKeys(energy=f"energy{suffix}", forces=f"forces{suffix}"))
    for index in (3, len(source) // 2, len(source) - 1):
        found, atoms = source[index], read(path, index)
        results = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
        np.testing.assert_array_equal(found.numbers, atoms.numbers)
        np.testing.assert_array_equal(found.positions, atoms.positions)
        assert found.energy == results[f"energy{suffix}"]
        np.testing.assert_array_equal(found.forces, results[f"forces{suffix}"])
        if "mptrj" in name:
            np.testing.assert_array_equal(found.cell, atoms.cell[:])
            stress = voigt_6_to_full_3x3_stress(atoms.get_stress())
            np.testing.assert_allclose(found.stress, stress, rtol=0, atol=1e-12)
        else:
            assert found.stress is None


def test_shared_crystals_with_stress(shared):
    structures = read_extxyz(shared / "data" / "mptrj_tp" / "mpf-alkali-TP.xyz")
    assert len(structures) == 460
    for structure in structures:
        assert structure.pbc.all()
        np.testing.assert_array_equal(structure.stress, structure.stress.T)
    # Sampled under pressure: with tensile stress positive, the mean stress is negative.
    assert np.mean([np.trace(s.stress) < 0 for s in structures]) > 0.9
