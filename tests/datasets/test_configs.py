"""`dataset=pubchemqcr_mini` and `dataset=oc20_mini` load what they say, split by trajectory."""

import numpy as np
import pytest

from mlip.cli.compose import compose
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings


@pytest.fixture(scope="module")
def load():
    def load(name):
        options = compose("train", [f"dataset={name}"])["dataset"]
        return load_dataset(DatasetSettings.model_validate(options))

    return load


def molecules(structures):
    """CIDs, from identifiers such as Data01.lmdb#000000176/DFT_2nd/3."""
    return {structure.identifier.partition("#")[2].partition("/")[0] for structure in structures}


def test_pubchemqcr_mini_is_split_by_molecule(load, root, table):
    dataset = load("pubchemqcr_mini")
    rows = table(root / "datasets" / "pubchemqcr_mini" / "README.md")
    steps = {name: sum(map(int, rows[name][2:4])) for name in rows if name.endswith(".lmdb")}
    assert len(dataset.tests["test"]) == steps.pop("Data03.lmdb")
    assert len(dataset.train) + len(dataset.valid) == sum(steps.values())
    assert len(molecules(dataset.valid)) >= 4
    assert not molecules(dataset.train) & molecules(dataset.valid)
    assert dataset.elements == (1, 6, 7, 8, 9, 16, 17)
    for structure in dataset.valid:  # bound by 3 to 6 eV an atom against the E0 of the file
        e0 = sum(dataset.e0.values[int(number)] for number in structure.numbers)
        assert 3 < (e0 - structure.energy) / len(structure) < 6


def test_oc20_mini_has_fixed_atoms_and_other_systems_to_test(load, root, table):
    dataset = load("oc20_mini")
    rows = table(root / "datasets" / "oc20_mini" / "README.md")
    frames = {name: int(cells[1]) for name, cells in rows.items() if name.count("/") == 1}
    assert len(dataset.train) == frames["train/0"] + frames["train/1"]
    assert len(dataset.valid) == frames["val_id/0"]
    assert len(dataset.tests["ood_both"]) == frames["val_ood_both/0"]
    for structure in dataset.valid:
        assert 0 < structure.fixed.sum() < len(structure)
        assert np.abs(structure.forces[structure.fixed]).max() > 1e-3


def test_oc20_mini_is2re_has_energies_alone(load):
    dataset = load("oc20_mini_is2re")
    assert [len(dataset.train), len(dataset.valid), len(dataset.tests["ood_both"])] == [24, 5, 5]
    for structure in [*dataset.train, *dataset.valid]:
        assert structure.forces is None
        assert -2 < structure.energy < 0.2  # relaxed; the initial ones reach several eV
