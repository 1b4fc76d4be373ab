import pickle

import h5py
import numpy as np
import pytest

from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source

FORCES = np.arange(6.0).reshape(2, 3)


def write_configuration(group, *, nested=True, **changes):
    labels = {"energy": -3.0, "forces": FORCES, "stress": "None", "virials": "None"} | changes
    group["atomic_numbers"] = np.array([1, 8])
    group["positions"] = np.eye(3)[:2]
    group["cell"] = np.diag([4.0, 5.0, 6.0])
    group["pbc"] = np.array([True, True, True])
    group["weight"] = 2.0
    group["config_type"] = "hot"
    holder = group.create_group("properties") if nested else group
    for key, value in labels.items():
        holder[key] = value


@pytest.fixture
def path(tmp_path):
    """Twelve configurations in a batch, two in another."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for batch, size in enumerate((12, 2)):
            for index in range(size):
                group = file.create_group(f"config_batch_{batch}/config_{index}")
                write_configuration(group, energy=-1.0 * index - 100 * batch)
    return path


def test_order_and_content(path):
    source = pickle.loads(pickle.dumps(open_source(path)))
    assert [s.energy for s in source] == [-1.0 * index for index in range(12)] + [-100.0, -101.0]
    structure = source[13]
    assert structure.identifier == "a.h5#config_batch_1/config_1"
    np.testing.assert_array_equal(structure.numbers, [1, 8])
    np.testing.assert_array_equal(structure.forces, FORCES)
    np.testing.assert_array_equal(structure.cell, np.diag([4.0, 5.0, 6.0]))
    assert structure.stress is None
    assert (structure.weight, structure.group) == (2.0, "hot")
    np.testing.assert_array_equal(source.sizes(), [2] * 14)


def test_a_folder_of_files(path):
    path.rename(path.with_name("train_0.h5"))
    with h5py.File(path.with_name("train_1.h5"), "w") as file:
        write_configuration(file.create_group("config_batch_0/config_0"), energy=-7.0)
    source = open_source(path.parent)
    assert len(source) == 15
    assert source[14].energy == -7.0


def test_labels_beside_the_structure_and_of_weight_zero(tmp_path):
    virials = -120.0 * np.diag([1.0, 2.0, 3.0])
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        group = file.create_group("config_batch_0/config_0")
        write_configuration(group, nested=False, virials=virials, forces=np.zeros((2, 3)))
        group["forces_weight"] = 0.0
        group["energy_weight"] = 1.0
    settings = SourceSettings(keys=LabelKeys(virials="virials"))
    structure = open_source(tmp_path / "a.hdf5", settings)[0]
    assert structure.energy == -3.0
    assert structure.forces is None
    np.testing.assert_allclose(structure.stress, np.diag([1.0, 2.0, 3.0]))
