"""Bad data get one clear message that names the file and frame, before any training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.data.dataset import Dataset, DatasetSettings, load_dataset
from mlip.data.neighbors import neighbor_list
from mlip.data.preflight import preflight
from mlip.data.sources.extxyz import read_extxyz
from mlip.data.sources.labels import LabelKeys
from mlip.data.structure import Structure
from mlip.errors import MlipError

E0 = {"H": -13.0, "O": -2040.0}


def water(seed: int, scale: float = 1.0, key: str = "energy") -> Atoms:
    generator = np.random.default_rng(seed)
    positions = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    atoms = Atoms("OH2", positions + generator.normal(scale=0.05, size=(3, 3)))
    forces = generator.normal(size=(3, 3))
    forces -= forces.mean(axis=0)
    energy = scale * (-2066.0 - 9.0 + generator.normal(scale=0.1))
    results = {"forces": forces} | ({"energy": energy} if key == "energy" else {})
    atoms.calc = SinglePointCalculator(atoms, **results)
    if key != "energy":
        atoms.info[key] = energy
    return atoms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "data.xyz"
    write(file, [water(seed) for seed in range(10)])
    return file


def load(path: Path, **changes) -> Dataset:
    values = {"name": "bad", "root": path.parent, "train": path.name, "valid_count": 2, "e0": E0}
    return load_dataset(DatasetSettings(**(values | changes)))


def refused(path: Path, message: str, **changes) -> str:
    with pytest.raises(MlipError, match=message) as error:
        preflight(load(path, **changes), 5.0)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file(tmp_path):
    refused(tmp_path / "none.xyz", r"none\.xyz does not exist")


def test_another_format(path):
    refused(path.rename(path.with_suffix(".cif")), r"ASE cannot read .*data\.cif")


def test_misspelt_label_key(path):
    message = refused(path, "none of the 10 frames has the forces key 'force'",
                      keys={"forces": "force"})  # fmt: skip
    assert "energy (10), forces (10)" in message
    assert "did you mean dataset.keys.forces=forces?" in message


def test_label_under_an_unannounced_key(path):
    write(path, [water(seed, key="REF_energy") for seed in range(10)])
    message = refused(path, "none of the 10 frames has the energy key 'energy'")
    assert "dataset.keys.energy=REF_energy" in message


def test_isolated_atoms_under_another_energy_key(path):
    write(path, [water(seed, key="REF_energy") for seed in range(10)])
    atoms = [Atoms([symbol], info={"E_atom": energy}) for symbol, energy in E0.items()]
    write(path.with_name("atoms.xyz"), atoms)
    options = {"keys": {"energy": "REF_energy"}, "isolated_atoms": "atoms.xyz", "e0": "isolated"}
    message = refused(path, r"atoms\.xyz: none of the 2 frames has the energy key", **options)
    assert "dataset.isolated_energy_key" in message
    assert "dataset.keys" not in message
    found = load(path, isolated_energy_key="E_atom", **options)
    assert found.e0.values == {1: E0["H"], 8: E0["O"]}


def test_no_labels_at_all(path):
    bare = [water(seed) for seed in range(3)]
    for atoms in bare:
        atoms.calc = None
    write(path, bare)
    refused(path, "keys present \\(frames\\): none")


def test_truncated_in_the_middle_of_a_frame(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    refused(path, "frame 9 announces 3 atoms but has 1: the file is truncated")


@pytest.mark.parametrize("cut", [6, 40], ids=["a number", "a line"])
def test_truncated_in_the_middle(path, cut):
    path.write_text(path.read_text()[:-cut])
    refused(path, r"the last line of frame 9 ends after \d+ of \d+ characters: the file is trunc")


def test_a_last_line_without_end_is_whole(path):
    path.write_text(path.read_text().rstrip("\n"))
    assert len(load(path).train) == 8


def test_a_line_too_many(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], "H 0 0 0 0 0 0\n", *lines[5:]]))
    refused(path, "frame 1 starts with 'H 0 0 0 0 0 0' where its number of atoms")


def test_not_text(path):
    path.write_bytes(bytes(range(128, 256)) * 10)
    refused(path, r"data\.xyz")


def test_empty_file(path):
    path.write_text("")
    refused(path, r"data\.xyz is empty")


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_label_that_is_not_finite(path, key):
    atoms = water(0)
    atoms.calc.results[key] = np.asarray(atoms.calc.results[key]) * np.nan
    write(path, atoms, append=True)
    refused(path, rf"data\.xyz#10: {key} is not finite")


def test_label_that_is_no_number(path):
    atoms = water(0, key="e")
    atoms.info["e"] = "unconverged"
    write(path, atoms)
    with pytest.raises(MlipError, match=r"data\.xyz#0: e='unconverged' is not a number"):
        read_extxyz(path, keys=LabelKeys(energy="e"))


@pytest.mark.parametrize("entry", ["charge=neutral", 'charge="0 0"', "spin=nan", "spin=singlet"])
def test_charge_or_spin_that_is_no_number(path, entry):
    path.write_text(path.read_text().replace("Properties", f"{entry} Properties", 1))
    name = entry.partition("=")[0]
    refused(path, rf"data\.xyz#0: {name}='.*' is not a finite number; write one in the frame's")


def test_forces_of_the_wrong_shape(path):
    atoms = water(0)
    atoms.arrays["f"] = np.zeros((3, 2))
    write(path, atoms)
    with pytest.raises(MlipError, match=r"data\.xyz#0: f has shape \(3, 2\), expected \(3, 3\)"):
        read_extxyz(path, keys=LabelKeys(forces="f"))


def test_element_without_e0(path):
    refused(path, "dataset.e0 has no energy for O", e0={"H": -13.0})


def test_element_only_in_a_test_subset(path):
    atoms = water(50)
    atoms.symbols[0] = "S"
    write(path.with_name("test.xyz"), atoms)
    message = r"t contains S, which the training data do not, .*or leave them out: test\.xyz#0"
    refused(path, message, tests={"t": {"file": "test.xyz"}})


def test_element_only_in_the_validation_data_whatever_e0_says(path):
    atoms = water(50)
    atoms.symbols[0] = "S"
    write(path.with_name("valid.xyz"), atoms)
    np.savez(path.with_name("e0.npz"), coeff=np.full(20, -1.0))
    message = r"valid contains S, which the training data do not, .*whatever E0 there is"
    limits = {"max_energy_per_atom": 1e6}
    refused(path, message, valid="valid.xyz", valid_count=None, e0="e0.npz", preflight=limits)


@pytest.mark.parametrize("subset", ["valid", "t"])
def test_element_that_the_sample_of_streamed_data_lacks(path, subset):
    frames = [water(seed) for seed in (50, 51, 52)]
    frames[1].symbols[0] = "S"
    write(path.with_name("rare.xyz"), frames)
    given = {"valid": {"valid": "rare.xyz", "valid_count": None}, "t": {"tests": {"t": "rare.xyz"}}}
    options = {**given[subset], "stream": True}
    message = (
        rf"the sample of {subset} contains S, which the sample of the training data does not; .*"
        r"dataset\.e0, .*\(mlip data prepare\), .*dataset\.on_bad_record=skip\): rare\.xyz#1\."
    )
    refused(path, message, **options)
    preflight(load(path, **options, e0={**E0, "S": -10_000.0}), 5.0)
    dataset = load(path, **options, on_bad_record="skip")
    preflight(dataset, 5.0)
    assert [s.identifier for s in dataset.sample(subset)] == ["rare.xyz#0", "rare.xyz#2"]
    (note,) = [note for note in dataset.notes if "cannot be used" in note]
    assert note.startswith(f"{subset}: left out 1 of 3 records that cannot be used: rare.xyz#1: el")
    with pytest.raises(MlipError, match=rf"dataset\.{subset}: all frames have elements that"):
        load(path, **given[subset] | {"stream": True, "on_bad_record": "skip"} | only_rare(subset))


def only_rare(subset: str) -> dict:
    file = "rare.xyz@1:2"
    return {"valid": file} if subset == "valid" else {"tests": {"t": file}}


def test_a_periodic_cell_of_zero_volume(path):
    atoms = water(0)
    atoms.cell, atoms.pbc = [5, 5, 0], True
    write(path, atoms, append=True)
    refused(path, r"data\.xyz#10: pbc is true but the cell has zero volume")


def test_a_slab_without_a_lattice_vector_in_the_plane():
    structure = Structure(
        np.ones(1, int), np.zeros((1, 3)), np.diag([3.0, 0, 0]), np.array([True, True, False])
    )
    with pytest.raises(MlipError, match="lattice vector 1, which has zero length"):
        neighbor_list(structure, 5.0)


def test_atoms_on_one_spot(path):
    atoms = water(0)
    atoms.positions[2] = atoms.positions[1]
    write(path, atoms, append=True)
    refused(path, r"data\.xyz#10: atoms 1 and 2 are 0.0e\+00 Å apart")


def test_atoms_on_one_spot_across_the_boundary(path):
    atoms = Atoms("OH2", [[0, 0, 0], [4, 0, 0], [1, 1, 1]], cell=[4, 4, 4], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-2075.0, forces=np.zeros((3, 3)))
    write(path, atoms, append=True)
    refused(path, r"data\.xyz#10: atoms 0 and 1 are")


def test_energies_in_hartree_with_e0_in_ev(path):
    write(path, [water(seed, scale=1 / 27.2114) for seed in range(10)])
    refused(path, "look like Hartree")


@pytest.mark.parametrize("unit", ["kcal/mol", "kJ/mol"])
def test_energies_in_kcal_with_fitted_e0(path, unit):
    factor = {"kcal/mol": 23.0605, "kJ/mol": 96.4853}[unit]
    write(path, [water(seed, scale=factor) for seed in range(10)])
    refused(path, f"look like {unit}", e0="least_squares")


def test_a_split_by_trajectories_that_are_not_named(path):
    refused(path, "dataset.split_by=trajectory: none of the 10 frames", split_by="trajectory")


def test_energies_of_another_method_than_e0(path):
    refused(path, "energies and E0 .* do not belong together", e0={"H": -13.0, "O": -440.0})


def test_forces_that_are_not_a_gradient(path):
    atoms = water(0)
    atoms.calc.results["forces"][0] = 0
    write(path, atoms, append=True)
    refused(path, r"forces of a molecule must add up to zero; .* in data\.xyz#10")


def test_duplicates_across_subsets(path):
    write(path.with_name("test.xyz"), [water(60), water(3)])
    message = refused(path, "1 structures of t also stand in the training or validation data",
                      tests={"t": {"file": "test.xyz"}})  # fmt: skip
    assert "test.xyz#1 = data.xyz#3" in message


def test_duplicates_between_training_and_validation_files(path):
    refused(path, "1 structures of valid also stand in the training",
            train="data.xyz@:8", valid="data.xyz@7:", valid_count=None)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"split_by": "frame"}, "dataset.split_by=trajectory keeps such apart"),
        ({"valid": "a.xyz", "valid_count": None}, "mlip data split makes subsets"),
        ({"tests": {"t": "a.xyz"}}, "mlip data split makes subsets"),
    ],
    ids=["split", "valid", "test"],
)
def test_duplicates_in_a_stream_are_warned_of_with_what_helps(path, options, advice):
    write(path.with_name("a.xyz"), [water(3), water(60)])
    dataset = load(path, stream=True, **options)
    if "split_by" in options:  # a draw by frame does not look for them
        samples = {**dataset.samples, "valid": dataset.samples["train"][:1]}
        dataset = dataclasses.replace(dataset, samples=samples)
    (found,) = [line for line in preflight(dataset, 5.0).warnings if "also stand in" in line]
    assert f"; {advice}" in found


def test_everything_fatal_is_told_at_once(path):
    dataset = load(path)
    wrong = [dataclasses.replace(s, forces=np.ones((3, 3))) for s in dataset.train]
    dataset = dataclasses.replace(dataset, train=wrong, valid=wrong[:1])
    with pytest.raises(MlipError, match=r"add up to zero.*also stand in the training"):
        preflight(dataset, 5.0)
