import numpy as np
import pytest
from ase.units import Bohr, Hartree, kcal, mol

from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.errors import MlipError

RNG = np.random.default_rng(0)
POSITIONS, FORCES = RNG.normal(size=(4, 3, 3)), RNG.normal(size=(4, 3, 3))
ENERGIES = RNG.normal(size=4) - 1000


def test_revised_md17_is_in_kcal_per_mol(tmp_path):
    np.savez(tmp_path / "rmd17_water.npz", nuclear_charges=np.array([8, 1, 1]), coords=POSITIONS,
             energies=ENERGIES, forces=FORCES, old_indices=np.arange(4))  # fmt: skip
    source = open_source(tmp_path / "rmd17_water.npz")
    assert len(source) == 4
    np.testing.assert_array_equal(source.sizes(), [3] * 4)
    structure = source[2]
    np.testing.assert_array_equal(structure.numbers, [8, 1, 1])
    np.testing.assert_array_equal(structure.positions, POSITIONS[2])
    assert structure.energy == pytest.approx(ENERGIES[2] * kcal / mol)
    np.testing.assert_allclose(structure.forces, FORCES[2] * kcal / mol)
    assert structure.identifier == "rmd17_water.npz#2"


def test_a_label_whose_key_is_null_is_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", z=np.array([8, 1, 1]), R=POSITIONS, E=ENERGIES, F=FORCES)
    for keys, lacking in ((LabelKeys(forces=None), "forces"), (LabelKeys(energy=None), "energy")):
        structure = open_source(tmp_path / "a.npz", SourceSettings(keys=keys))[0]
        labels = {"energy": structure.energy, "forces": structure.forces}
        assert [name for name, label in labels.items() if label is None] == [lacking]


def test_files_of_sgdml_name_their_units(tmp_path):
    np.savez(tmp_path / "md.npz", z=np.array([8, 1, 1]), R=POSITIONS, E=ENERGIES[:, None],
             F=FORCES, e_unit=np.array(b"Hartree"), r_unit=np.array("Bohr"))  # fmt: skip
    structure = open_source(tmp_path / "md.npz")[1]
    assert structure.energy == pytest.approx(ENERGIES[1] * Hartree)
    np.testing.assert_allclose(structure.positions, POSITIONS[1] * Bohr)
    np.testing.assert_allclose(structure.forces, FORCES[1] * Hartree / Bohr)


def test_other_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", weights=np.zeros(3))
    with pytest.raises(MlipError, match="lacks the arrays of MD17"):
        open_source(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", z=np.array([8, 1, 1]), R=POSITIONS[:3], E=ENERGIES, F=FORCES)
    with pytest.raises(MlipError, match="3 atoms and 4 energies, but positions of shape"):
        open_source(tmp_path / "y.npz")
    (tmp_path / "z.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(MlipError, match="cannot be read as arrays"):
        open_source(tmp_path / "z.npz")
