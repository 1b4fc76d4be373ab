"""`mlip data inspect` from end to end."""

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mlip.cli.main import main

pytest_plugins = ("tests.support.cli",)


def inspect(folder, *words):
    assert main(["data", "inspect", f"run.dir={folder}", *words]) == 0


def test_files_are_described_on_the_terminal_and_on_a_page(data_folder, tmp_path, capsys):
    files = f"data={{first: {data_folder}/train.xyz, second: {data_folder}/test.xyz}}"
    inspect(tmp_path, files)
    printed = " ".join(capsys.readouterr().out.split())
    rows = ("first second", "records 16 6", "looked at 16 6", "elements H O H O")
    others = ("All records were read.", "E0 from least squares", "RMS force component")
    for expected in (*rows, *others):
        assert expected in printed
    page = (tmp_path / "inspection.html").read_text()
    assert page.count("data:image/png") == 2
    assert "No structure has a stress label." in page
    assert (tmp_path / "figures" / "distributions.png").is_file()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["sample"] == 10_000


def test_a_data_set_is_inspected_as_it_would_be_trained_on(data_folder, tmp_path, capsys):
    words = ["dataset=extxyz", f"dataset.root={data_folder}", "dataset.train=train.xyz"]
    words += ["dataset.isolated_atoms=atoms.xyz", "dataset.tests={hot: train.xyz@:5}"]
    inspect(tmp_path, *words)
    printed = " ".join(capsys.readouterr().out.split())
    assert "E0 from isolated atoms in atoms.xyz" in printed
    assert "5 structures of hot also stand in the training or validation data" in printed
    page = (tmp_path / "inspection.html").read_text()
    assert "Training would refuse these data" in page


def test_e0_that_contradict_the_energies_are_listed(data_folder, tmp_path, capsys):
    words = ["dataset=extxyz", f"dataset.root={data_folder}", "dataset.train=train.xyz"]
    words += ["dataset.isolated_atoms=atoms.xyz", "dataset.energy_reference=referenced"]
    inspect(tmp_path, *words)
    printed = " ".join(capsys.readouterr().out.split())
    assert "energies are referenced" in printed
    assert "E0 from least squares" in printed
    assert "(those asked for cannot be used: see the findings)" in printed
    assert "which do not contain the energies of isolated atoms; set dataset.e0=" in printed


def test_forces_that_do_the_right_work_are_not_doubted(root, tmp_path, capsys):
    """A pair potential fitted to the forces of these relaxations has the energies upside down."""
    inspect(tmp_path, "dataset=pubchemqcr_mini")
    printed = " ".join(capsys.readouterr().out.split())
    assert "energy differences are 1 times the work of the forces" in printed
    assert "sign of the forces" not in printed


def test_a_sample_is_said_to_be_one(data_folder, tmp_path, capsys):
    inspect(tmp_path, f"data={data_folder}/train.xyz", "sample=10")
    printed = " ".join(capsys.readouterr().out.split())
    assert "Only a sample was read: 10 of the 16 records of train" in printed


def test_what_is_wrong_is_listed_all_at_once(data_folder, tmp_path, capsys):
    frames = read(data_folder / "train.xyz", ":")
    for index, atoms in enumerate(frames):
        forces = np.array(atoms.get_forces())
        energy = atoms.get_potential_energy()
        if index == 1:
            forces[0, 0] = np.nan
        if index == 2:
            atoms.positions[1] = atoms.positions[0]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    write(tmp_path / "bad.xyz", [*frames, frames[5]])
    inspect(tmp_path / "run", f"data={tmp_path}/bad.xyz")
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 17 records cannot be used: bad.xyz#1: forces is not finite" in printed
    assert "bad.xyz#2: atoms 0 and 1 are 0.0e+00 Å apart" in printed
    assert "duplicates within the subset: bad.xyz#16" in printed


def test_stress_has_a_figure(tmp_path, capsys):
    frames = []
    for strain in np.linspace(-0.02, 0.02, 8):
        atoms = Atoms("Cu4", scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5],
                                               [0.5, 0.5, 0]], cell=[3.6 * (1 + strain)] * 3,
                      pbc=True)  # fmt: skip
        stress = np.array([-2.0, -2.0, -2.0, 0, 0, 0]) * strain
        atoms.calc = SinglePointCalculator(
            atoms, energy=-14.0 + strain**2, forces=np.zeros((4, 3)), stress=stress
        )
        frames.append(atoms)
    write(tmp_path / "cu.xyz", frames)
    inspect(tmp_path / "run", f"data={tmp_path}/cu.xyz")
    assert "probably has the opposite sign" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "run" / "figures" / "stress.png").is_file()


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("isolated_atoms=a.xyz", "dataset.train=FILE dataset.isolated_atoms=…"),
        ("dataset.isolated_atoms=a.xyz", "dataset.train=FILE dataset.isolated_atoms=…"),
        ("dataset.keys.energy=E", "the names of the labels in data=FILE are keys.energy=…"),
    ],
)
def test_options_of_a_data_set_beside_a_file(word, right, capsys):
    assert main(["data", "inspect", "data=x.xyz", word]) == 2
    said = capsys.readouterr().err
    assert f"{word.partition('=')[0].removesuffix('.energy')} beside data=FILE" in said
    assert right in said


def test_options_of_files_beside_a_data_set(capsys):
    assert main(["data", "inspect", "dataset=quickstart", "keys.energy=E"]) == 2
    assert "give them as dataset.keys" in capsys.readouterr().err


def test_forces_in_kcal_are_pointed_out(root, tmp_path, capsys):
    frames = read(root / "datasets" / "quickstart" / "train_300K.xyz", ":20")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), 23.06 * atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    write(tmp_path / "kcal.xyz", frames)
    inspect(tmp_path / "run", f"data={tmp_path}/kcal.xyz")
    printed = " ".join(capsys.readouterr().out.split())
    assert "the forces are not in eV/Å, but probably in kcal/mol/Å" in printed
    assert "probably have different units" in printed
    assert "Training would refuse these data" in (tmp_path / "run/inspection.html").read_text()


@pytest.mark.parametrize("words", [[], ["data=x.xyz", "dataset=quickstart"]])
def test_one_of_data_and_dataset_is_needed(words, capsys):
    assert main(["data", "inspect", *words]) == 2
    assert "give either data=FILE or dataset=NAME" in capsys.readouterr().err
