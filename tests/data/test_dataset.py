import numpy as np
import pytest
from ase.io import read, write
from pydantic import ValidationError

from mlip.data.dataset import DatasetSettings, load_dataset
from mlip.data.preflight import preflight
from mlip.errors import MlipError


def settings(path, **changes) -> DatasetSettings:
    values = {"name": "waters", "root": path.parent, "train": path.name, "valid_count": 3}
    return DatasetSettings(**(values | changes))


def names(structures):
    return [s.identifier for s in structures]


def test_a_single_file_is_split_and_gives_e0(waters_file):
    dataset = load_dataset(settings(waters_file))
    assert (len(dataset.train), len(dataset.valid), dataset.tests) == (9, 3, {})
    assert dataset.elements == (1, 8)
    assert dataset.e0.values == {1: -13.0, 8: -2040.0}
    assert repr(dataset) == "Dataset(waters: train 9, valid 3 structures of H O)"
    # The isolated atoms, frames 0 and 1, are neither trained on nor held out.
    assert not {"waters.xyz#0", "waters.xyz#1"} & set(names(dataset.train + dataset.valid))


def test_the_split_depends_on_its_seed_only(waters_file):
    first, again, other = (
        load_dataset(settings(waters_file, split_seed=seed)) for seed in (1, 1, 2)
    )
    assert names(first.valid) == names(again.valid) != names(other.valid)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_fraction_is_rounded(waters_file):
    dataset = load_dataset(settings(waters_file, valid_count=None, valid_fraction=0.2))
    assert len(dataset.valid) == 2


def test_files_and_slices(waters_file, tmp_path):
    dataset = load_dataset(
        settings(
            waters_file,
            train="waters.xyz@:8",
            valid="waters.xyz@8:11",
            valid_count=None,
            tests={"late": {"file": "waters.xyz@-3:"}, "one": {"file": str(waters_file) + "@4:5"}},
        )
    )
    assert names(dataset.valid) == [f"waters.xyz#{i}" for i in (8, 9, 10)]
    assert names(dataset.tests["late"]) == [f"waters.xyz#{i}" for i in (11, 12, 13)]
    assert names(dataset.tests["one"]) == ["waters.xyz#4"]
    assert list(dataset.subsets) == ["train", "valid", "late", "one"]


def test_duplicates_of_train_and_valid_leave_a_test_subset(waters_file, tmp_path, make_water):
    write(tmp_path / "test.xyz", [make_water(3), make_water(77), make_water(5)])
    spec = {"file": "test.xyz", "exclude_duplicates_of_train": True}
    dataset = load_dataset(settings(waters_file, tests={"t": spec}))
    assert names(dataset.tests["t"]) == ["test.xyz#1"]
    assert "left out 2 of 3" in dataset.notes[0]


def test_isolated_atoms_from_their_own_file(waters_file, tmp_path, make_isolated):
    for atom in (atoms := make_isolated()):
        atom.calc.results["energy"] -= 1.0
        atom.calc.results.pop("forces")
        atom.info.clear()
    write(tmp_path / "iso.xyz", atoms)
    dataset = load_dataset(settings(waters_file, isolated_atoms="iso.xyz"))
    assert dataset.e0.values == {1: -14.0, 8: -2041.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"valid_fraction": 0.1},
        {"valid": "v.xyz"},
        {"valid_count": 0},
        {"valid_count": None, "valid_fraction": 1.5},
        {"e0": "guess"},
        {"trian": "x.xyz"},
    ],
)
def test_contradictory_or_unknown_options_are_refused(waters_file, changes):
    with pytest.raises(ValidationError):
        settings(waters_file, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "waters.xyz@a:b"}, "start:stop"),
        ({"train": "waters.xyz@0:2"}, "holds no frame to use"),
        ({"train": "missing.xyz"}, "does not exist; check its name, and dataset.root"),
        ({"tests": {"valid": {"file": "waters.xyz"}}}, "another name"),
        ({"isolated_atoms": "waters.xyz"}, r"waters\.xyz#2: 3 atoms where an isolated atom"),
        ({"valid_count": 12}, "cannot hold out 12 of 12"),
    ],
)
def test_unusable_files_are_named(waters_file, changes, message):
    with pytest.raises(MlipError, match=message):
        load_dataset(settings(waters_file, **changes))


def test_a_test_subset_of_duplicates_only_is_refused(waters_file):
    spec = {"file": "waters.xyz", "exclude_duplicates_of_train": True}
    with pytest.raises(MlipError, match=r"tests\.t: no frame of waters\.xyz is left"):
        load_dataset(settings(waters_file, tests={"t": spec}))


def test_the_quickstart_data_set(root):
    folder = root / "datasets" / "quickstart"
    temperatures = (300, 600, 1200)
    dataset = load_dataset(
        DatasetSettings(
            name="quickstart",
            root=folder,
            train="train_300K.xyz",
            valid="valid_300K.xyz",
            tests={f"{t}K": {"file": f"test_{t}K.xyz"} for t in temperatures},
            isolated_atoms="isolated_atoms.xyz",
        )
    )
    assert {name: len(found) for name, found in dataset.subsets.items()} == {
        "train": 500, "valid": 100, "300K": 100, "600K": 100, "1200K": 100,
    }  # fmt: skip
    assert dataset.elements == (1, 6, 7, 8)
    assert preflight(dataset, 5.0).warnings == ()
    rms = {
        name: np.sqrt(np.mean(np.square([s.forces for s in found])))
        for name, found in dataset.subsets.items()
    }
    assert rms["300K"] < rms["600K"] < rms["1200K"]
    assert rms["train"] == pytest.approx(rms["300K"], rel=0.05)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6e6
    groups = {s.group for s in dataset.tests["600K"]}
    assert groups == {"md_600K"}
    # No trajectory serves two subsets.
    sources = [
        {frame.info["trajectory"] for frame in read(folder / f"{name}.xyz", ":")}
        for name in ("train_300K", "valid_300K", "test_300K")
    ]
    assert len(set.union(*sources)) == sum(map(len, sources))


def test_shared_3bpa(shared):
    windows = {"300K": "0:167", "600K": "167:334", "1200K": "334:500"}
    dataset = load_dataset(
        DatasetSettings(
            name="3bpa",
            root=shared / "data" / "3bpa",
            train="train_300K.xyz",
            valid_count=50,
            isolated_atoms="iso_atoms.xyz",
            tests={
                name: {"file": f"train_mixedT.xyz@{window}", "exclude_duplicates_of_train": True}
                for name, window in windows.items()
            },
        )
    )
    sizes = {name: len(found) for name, found in dataset.subsets.items()}
    assert sizes == {"train": 450, "valid": 50, "300K": 136, "600K": 167, "1200K": 166}
    assert preflight(dataset, 5.0).warnings == ()
