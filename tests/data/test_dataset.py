import numpy as np
import pytest
from ase.io import read, write

from mlip.data.dataset import DatasetSettings, load_dataset, read_frames
from mlip.data.frames import Frames
from mlip.data.preflight import preflight
from mlip.data.sources.registry import SourceSettings
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
        {"e0": "least_squares", "isolated_atoms": "iso.xyz"},
        {"e0": {"H": -13.6}, "isolated_atoms": "iso.xyz"},
        {"isolated_energy_key": "E"},
        {"stream": False, "workers": 2},
    ],
)
def test_contradictory_or_unknown_options_are_refused(waters_file, changes):
    with pytest.raises(MlipError):
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


# --- several files, and data that are streamed


def isolated_of(make_isolated, folder):
    write(folder / "iso.xyz", make_isolated())
    return {"isolated_atoms": "iso.xyz"}


def test_several_files_are_put_together(waters_file, tmp_path, make_water):
    write(tmp_path / "more.xyz", [make_water(seed) for seed in range(20, 25)])
    dataset = load_dataset(settings(waters_file, train=["waters.xyz", "more.xyz"]))
    found = names([*dataset.train, *dataset.valid])
    assert len(found) == 17
    assert {f"more.xyz#{i}" for i in range(5)} < set(found)


def test_a_weighted_mixture_is_streamed(waters_file, tmp_path, make_water):
    write(tmp_path / "more.xyz", [make_water(seed) for seed in range(20, 25)])
    parts = {"a": "waters.xyz@2:", "b": {"file": "more.xyz", "weight": 3}}
    dataset = load_dataset(settings(waters_file, train=parts, e0={"H": -13.0, "O": -2040.0}))
    assert isinstance(dataset.train, Frames)
    # Of 17 frames 3 are held out, in proportion; each of the others occurs once or three times.
    (first, more) = dataset.train.parts
    assert len(dataset.train) == len(first.records) + 3 * len(more.records)
    assert len(first.records) + len(more.records) + len(dataset.valid) == 17
    with pytest.raises(MlipError, match="weights of training files need a stream"):
        settings(waters_file, train=parts, stream=False)


def test_settings_are_written_as_they_may_be_given(waters_file):
    for train in (
        "a.xyz",
        ["a.xyz", "b.xyz@:5"],
        {"a": {"file": "a.xyz", "weight": 2.0, "source": None}},
    ):
        dumped = settings(waters_file, train=train).model_dump(mode="json")
        assert dumped["train"] == train
        assert DatasetSettings(**dumped) == settings(waters_file, train=train)


def test_a_stream_stands_for_the_same_data(waters_file, tmp_path, make_isolated):
    options = isolated_of(make_isolated, tmp_path)
    tests = {"t": "waters.xyz@3:6"}
    dataset = load_dataset(settings(waters_file, stream=True, tests=tests, **options))
    assert all(isinstance(subset, Frames) for subset in dataset.subsets.values())
    assert {name: len(dataset.subsets[name]) for name in dataset.subsets} == {
        "train": 11,  # with the isolated atoms, which batches leave out
        "valid": 3,
        "t": 3,
    }
    found = [*dataset.sample("train"), *dataset.sample("valid")]
    assert sorted(names(found)) == sorted(f"waters.xyz#{i}" for i in range(2, 14))
    assert dataset.e0.values == {1: -13.0, 8: -2040.0}
    assert dataset.elements == (1, 8)
    again = load_dataset(settings(waters_file, stream=True, tests=tests, **options))
    other = load_dataset(settings(waters_file, stream=True, split_seed=5, **options))
    assert dataset.fingerprint == again.fingerprint != other.fingerprint
    preflight(dataset, 5.0)


def test_isolated_atoms_at_the_beginning_of_a_stream_are_found(waters_file):
    dataset = load_dataset(settings(waters_file, stream=True))
    assert dataset.e0.values == {1: -13.0, 8: -2040.0}


def test_a_stream_is_chosen_by_the_number_of_frames(waters_file, monkeypatch):
    monkeypatch.setattr("mlip.data.dataset_settings.STREAM_ABOVE", 10)
    e0 = {"H": -13.0, "O": -2040.0}
    dataset = load_dataset(settings(waters_file, train="waters.xyz@2:", e0=e0))
    assert isinstance(dataset.train, Frames)
    assert isinstance(dataset.valid, list)  # small enough for memory
    assert len(dataset.valid) == 3


def test_the_sample_is_announced(waters_file, monkeypatch):
    monkeypatch.setattr("mlip.data.dataset.SAMPLE", 5)
    dataset = load_dataset(settings(waters_file, stream=True, e0={"H": -13.0, "O": -2040.0}))
    (note,) = [note for note in dataset.notes if note.startswith("train")]
    assert "a sample of" in note
    assert "of 11 structures" in note
    assert note in preflight(dataset, 5.0).facts


def test_compositions_are_kept_apart(waters_file, tmp_path, make_water):
    frames = [make_water(seed) for seed in range(12)]
    for index, frame in enumerate(frames):
        if index % 2:
            frame.symbols[:] = ["O", "O", "O"]
    write(tmp_path / "two.xyz", frames)
    options = {"train": "two.xyz", "e0": {"H": -13.0, "O": -2040.0}, "split_by": "composition"}
    dataset = load_dataset(settings(waters_file, **options))
    sides = [{tuple(s.numbers) for s in side} for side in (dataset.train, dataset.valid)]
    assert [len(side) for side in sides] == [1, 1]
    assert sides[0] != sides[1]


def test_energies_that_count_from_different_zeros_are_refused(waters_file, tmp_path, make_water):
    write(tmp_path / "more.xyz", [make_water(seed) for seed in range(20, 25)])
    adsorption = {"file": "more.xyz", "source": {"energy_reference": "referenced"}}
    parts = {"a": "waters.xyz", "b": adsorption}
    with pytest.raises(MlipError, match=r"waters\.xyz has unstated energies, more\.xyz has ref"):
        load_dataset(settings(waters_file, train=parts))
    assert len(load_dataset(settings(waters_file, train=parts, mix_energies=True)).train) == 14


def test_energies_of_another_kind_than_those_of_training_are_not_evaluated(tmp_path, make_water):
    frame = make_water()
    frame.info["energy_reference"] = "referenced"
    write(tmp_path / "a.xyz", frame)
    for reference in ("referenced", None):
        how = SourceSettings(energy_reference=reference)
        assert len(read_frames(f"{tmp_path}/a.xyz", how)[0]) == 1
    with pytest.raises(MlipError, match=r"a\.xyz holds referenced energies, which cannot be conv"):
        read_frames(f"{tmp_path}/a.xyz", SourceSettings(energy_reference="total"))


def test_damaged_frames_are_left_out_on_request(waters_file):
    lines = waters_file.read_text().splitlines(keepends=True)
    lines[-1] = lines[-1].replace("H", "?", 1)
    waters_file.write_text("".join(lines))
    with pytest.raises(MlipError, match=r"waters\.xyz: frame 13|waters\.xyz#13"):
        load_dataset(settings(waters_file))
    dataset = load_dataset(settings(waters_file, on_bad_record="skip"))
    assert len(dataset.train) + len(dataset.valid) == 11
    assert "left out 1 of 14 records that cannot be used: waters.xyz#13" in dataset.notes[0]


def test_duplicates_cannot_be_looked_for_in_a_stream(waters_file):
    spec = {"file": "waters.xyz", "exclude_duplicates_of_train": True}
    with pytest.raises(MlipError, match=r"tests\.t: duplicates cannot be looked for"):
        load_dataset(settings(waters_file, stream=True, tests={"t": spec}))


# --- trajectories


def walks(make_water, key="trajectory"):
    """Four trajectories of three frames."""
    return [make_water(seed, **{key: f"walk-{seed // 3}"}) for seed in range(12)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", ["trajectory", "sid"])
def test_trajectories_of_extended_xyz_are_kept_apart(
    waters_file, tmp_path, make_water, make_isolated, key, stream
):
    write(tmp_path / "walks.xyz", [*make_isolated(), *walks(make_water, key)])
    options = {"train": "walks.xyz@2:", "split_by": "trajectory", "stream": stream, "split_seed": 1}
    e0 = {"H": -13.0, "O": -2040.0}
    dataset = load_dataset(settings(waters_file, **options, e0=e0))
    found = [
        {(int(name.partition("#")[2].split()[0]) - 2) // 3 for name in names(dataset.sample(side))}
        for side in ("train", "valid")
    ]
    assert not found[0] & found[1]
    assert found[0] | found[1] == {0, 1, 2, 3}
    assert len(dataset.sample("valid")) % 3 == 0


@pytest.mark.parametrize("stream", [False, True])
def test_frames_that_name_no_trajectory_are_not_split_by_it(waters_file, stream):
    e0 = {"H": -13.0, "O": -2040.0}
    options = {"split_by": "trajectory", "stream": stream, "e0": e0}
    with pytest.raises(MlipError, match=r"none of the 12 frames looked at in waters\.xyz says wh"):
        load_dataset(settings(waters_file, **options))
    # Nothing is split where the validation data are given; that is said.
    options |= {"train": "waters.xyz@2:9", "valid": "waters.xyz@9:", "valid_count": None}
    dataset = load_dataset(settings(waters_file, **options))
    assert any("dataset.split_by=trajectory splits nothing" in note for note in dataset.notes)


def test_how_much_a_folder_holds_is_noted(root):
    """Whether the last shard is missing, only the user can tell."""
    settings = {"train": "lmdb/train", "valid_count": 10, "e0": "least_squares"}
    folder = root / "datasets" / "oc20_mini"
    dataset = load_dataset(DatasetSettings(name="x", root=folder, **settings))
    assert dataset.notes[0].startswith("lmdb/train: 2 files with ")
    assert dataset.notes[0].endswith(" records, the last of them data.0001.lmdb")


# --- label keys of single files


def test_a_test_file_has_label_keys_of_its_own(waters_file, tmp_path, make_water):
    frames = [make_water(seed) for seed in (50, 51)]
    for frame in frames:
        frame.info["dft_energy"] = frame.get_potential_energy()
        frame.arrays["dft_forces"] = frame.get_forces()
        frame.calc = None
    write(tmp_path / "hot.xyz", frames)
    keys = {"energy": "dft_energy", "forces": "dft_forces"}
    hot = {"file": "hot.xyz", "source": {"keys": keys}}
    dataset = load_dataset(settings(waters_file, tests={"hot": hot}))
    assert [s.energy for s in dataset.tests["hot"]] == [f.info["dft_energy"] for f in frames]
    assert dataset.tests["hot"][0].forces is not None
    with pytest.raises(
        MlipError, match=r"mean dataset\.tests\.hot\.source\.keys\.energy=dft_energy"
    ):
        load_dataset(settings(waters_file, tests={"hot": "hot.xyz"}))


def test_atoms_on_one_spot_are_left_out_on_request(waters_file, tmp_path, make_water):
    waters = [make_water(seed) for seed in range(12)]
    waters[4].positions[:] = 0
    write(tmp_path / "a.xyz", waters)
    options = {"train": "a.xyz", "e0": {"H": -13.0, "O": -2040.0}, "on_bad_record": "skip"}
    for stream in (False, True):
        dataset = load_dataset(settings(waters_file, **options, stream=stream))
        (note,) = [note for note in dataset.notes if "cannot be used" in note]
        assert "left out 1 of " in note
        assert "a.xyz#4: atoms 0 and 1 are" in note
        preflight(dataset, 5.0)


def test_isolated_atoms_do_not_belong_to_other_energies_than_total_ones(waters_file):
    for reference in ("referenced", "atomisation"):
        with pytest.raises(MlipError, match=f"the training energies are {reference} ones"):
            load_dataset(settings(waters_file, energy_reference=reference))
        fitted = settings(waters_file, energy_reference=reference, e0="least_squares")
        assert load_dataset(fitted).energy_reference == reference
    assert load_dataset(settings(waters_file)).energy_reference == "unstated"
