from dataclasses import replace

import numpy as np
import pytest

from mlip.cli import data_convert
from mlip.cli.main import main
from mlip.data.convert import convert
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.data.files import Files
from mlip.data.frames import Part
from mlip.data.prepare import prepare
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.split_files import split_records, write_split
from mlip.data.splits import composition, structure_keys
from mlip.data.structure import ISOLATED_ATOM
from mlip.errors import MlipError
from tests.data.sources.test_prepared import BARE, prepared
from tests.data.sources.written import molecule, relaxation_step, write_lmdb
from tests.support.sources import MadeUp, cluster

FRACTIONS = {"train": 0.7, "valid": 0.2, "test": 0.1}


class Walks(MadeUp):
    """Walks of ten frames; the first two and the first and the third have a frame in common."""

    def __getitem__(self, index):
        return super().__getitem__({13: 3, 27: 7, 28: 7}.get(index, index))


def split(by, *, source=None, seed=0, **options):
    source = source or Walks(200)
    return source, split_records(Part(source, range(len(source))), FRACTIONS, by, seed, **options)


def require_nothing_in_common(source, found, of):
    seen = [{of(source[int(n)]) for n in numbers} for numbers in found.numbers.values()]
    for number, one in enumerate(seen):
        for other in seen[:number]:
            assert not one & other


def test_frames_are_dealt_once_and_duplicates_stay_together():
    source, found = split("frame")
    sizes = [len(numbers) for numbers in found.numbers.values()]
    assert sum(sizes) == 200
    np.testing.assert_allclose(sizes, [140, 40, 20], atol=3)
    assert found.groups == 197
    assert found.repeated == 0
    require_nothing_in_common(source, found, structure_keys)
    for numbers in found.numbers.values():
        assert (np.diff(numbers) > 0).all()
        assert len({7, 27, 28} & set(numbers.tolist())) in (0, 3)


def test_trajectories_stay_together_and_common_frames_are_left_out():
    for seed in range(4):
        source, found = split("trajectory", seed=seed)
        require_nothing_in_common(source, found, structure_keys)
        side = {
            source.trajectory(int(number)): name
            for name, numbers in found.numbers.items()
            for number in numbers
        }
        apart = side["walk 0"] != side["walk 1"]
        apart_too = side["walk 0"] != side["walk 2"]
        total = sum(map(len, found.numbers.values()))
        assert total + found.repeated == 200
        assert (found.repeated > 0) == (apart or apart_too)
        walks = [{source.trajectory(int(n)) for n in numbers} for numbers in found.numbers.values()]
        assert sum(map(len, walks)) == 20


def test_records_that_name_no_trajectory():
    class Nameless(MadeUp):
        def trajectory(self, index):
            return self.identifier(index)

    with pytest.raises(MlipError, match=r"by=trajectory: none of the 40 frames .* in made_up says"):
        split("trajectory", source=Nameless(40))


def test_compositions_stay_together():
    source, found = split("composition")
    require_nothing_in_common(source, found, lambda s: composition(s.numbers))
    assert all(len(numbers) for numbers in found.numbers.values())


def test_the_seed_decides_and_nothing_else():
    _, one = split("frame")
    _, same = split("frame")
    _, other = split("frame", seed=1)
    for name in FRACTIONS:
        np.testing.assert_array_equal(one.numbers[name], same.numbers[name])
    assert not np.array_equal(one.numbers["test"], other.numbers["test"])


def test_bad_records_and_isolated_atoms():
    _, found = split("frame", source=MadeUp(50, bad=(4, 5)), skip_bad=True)
    assert len(found.faults) == 2
    assert sum(map(len, found.numbers.values())) == 48
    with pytest.raises(MlipError, match=r"made_up#4: .*set on_bad_record=skip"):
        split("frame", source=MadeUp(50, bad=(4, 5)))


def test_isolated_atoms_are_trained_on(tmp_path):
    atoms = [
        replace(BARE, group=ISOLATED_ATOM, energy=-13.6),
        replace(BARE, numbers=np.array([8], np.int32), group=ISOLATED_ATOM, energy=-2041.8),
    ]
    source = open_source(
        prepared(tmp_path / "x.lmdb", [*(cluster(index) for index in range(40)), *atoms])
    )
    _, found = split("frame", source=source)
    assert found.isolated == 2
    assert {40, 41} <= set(found.numbers["train"].tolist())


def test_record_numbers_choose_the_frames_of_a_data_set(tmp_path):
    prepared(tmp_path / "x.lmdb", [cluster(index) for index in range(40)])
    part = Files(tmp_path, SourceSettings()).open("x.lmdb")
    found = split_records(part, FRACTIONS, "frame", 0)
    write_split(tmp_path / "split", found)
    for stream in (False, True):
        dataset = load_dataset(
            DatasetSettings(
                name="x", root=tmp_path, train="x.lmdb@split/train.npy",
                valid="x.lmdb@split/valid.npy", tests={"test": "x.lmdb@split/test.npy"},
                e0={"H": -13.6, "O": -2041.8}, stream=stream,
            )
        )  # fmt: skip
        for name, numbers in found.numbers.items():
            subset = dataset.subsets[name]
            names = {subset[i].identifier for i in range(len(subset))}
            assert names == {f"x.lmdb#{n} (made_up#{n})" for n in numbers}
    dataset = load_dataset(
        DatasetSettings(name="x", root=tmp_path, train="x.lmdb@split/train.npy", valid_count=5,
                        e0="least_squares", stream=True)
    )  # fmt: skip
    assert len(dataset.train) + len(dataset.valid) == len(found.numbers["train"])


def test_chosen_records_are_prepared_alone(tmp_path):
    prepared(tmp_path / "x.lmdb", [cluster(index) for index in range(40)])
    np.save(tmp_path / "some.npy", np.array([3, 4, 17, 39]))
    settings = SourceSettings()
    data = f"{tmp_path}/x.lmdb@{tmp_path}/some.npy"
    prepare(data, tmp_path / "some.lmdb", settings, cutoff=None, workers=0)
    expected = [cluster(index).energy for index in (3, 4, 17, 39)]
    assert [s.energy for s in open_source(tmp_path / "some.lmdb")] == expected


def test_a_split_by_trajectory_is_the_same_in_another_format(tmp_path):
    """The names of PubChemQCR, nine digits, are no numbers in extended XYZ either."""

    def relaxed(cid):
        step = relaxation_step()
        step["coordinates"][0]["z"] += 0.01 * (cid - 170)
        return molecule(DFT_1st=[step, step])

    entries = {b"%09d" % cid: relaxed(cid) for cid in range(170, 190)}
    write_lmdb(tmp_path / "Data06.lmdb", entries)
    files = Files(tmp_path, SourceSettings())
    convert(files.open("Data06.lmdb"), tmp_path / "same.xyz")
    found = [
        split_records(files.open(name), FRACTIONS, "trajectory", 0).numbers
        for name in ("Data06.lmdb", "same.xyz")
    ]
    assert open_source(tmp_path / "same.xyz").trajectory(12) == "000000176"
    for name in FRACTIONS:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_command_writes_numbers_and_files(tmp_path, capsys):
    prepared(tmp_path / "x.lmdb", [cluster(index) for index in range(40)])
    words = ["data", "split", f"data={tmp_path}/x.lmdb", f"output={tmp_path}/split"]
    words += ["fractions={train: 0.75, test: 0.25}", "files=.xyz"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "40 records in 40 groups by frame" in printed
    train, test = (open_source(tmp_path / "split" / f"{n}.xyz") for n in ("train", "test"))
    assert (len(train), len(test)) == (30, 10)
    assert {s.energy for s in train} | {s.energy for s in test} == {
        cluster(index).energy for index in range(40)
    }
    assert {path.name for path in (tmp_path / "split").iterdir()} == {
        "train.npy", "test.npy", "train.xyz", "test.xyz"
    }  # fmt: skip
    assert main(words) == 2
    assert "train.npy exists" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".xyz", ".lmdb"])
def test_a_split_that_failed_leaves_nothing_in_the_way_of_the_same_command(
    tmp_path, monkeypatch, ending
):
    prepared(tmp_path / "x.lmdb", [cluster(index) for index in range(8)])
    words = ["data", "split", f"data={tmp_path}/x.lmdb", f"output={tmp_path}/split"]
    words += ["fractions={train: 0.75, test: 0.25}", f"files={ending}"]
    whole = data_convert.write_as

    def full(data, output, settings):
        if output.stem == "test":
            raise MlipError("the disk is full.")
        whole(data, output, settings)

    monkeypatch.setattr(data_convert, "write_as", full)
    assert main(words) == 2
    assert not any((tmp_path / "split").iterdir())
    monkeypatch.setattr(data_convert, "write_as", whole)
    assert main(words) == 0
    sizes = [len(open_source(tmp_path / "split" / f"{n}{ending}")) for n in ("train", "test")]
    assert sizes == [6, 2]
    assert not list((tmp_path / "split").glob(".*"))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.array([1, 99]), "does not belong to x.lmdb: expected ascending record numbers"),
        (np.array([2, 2]), "does not belong to"),
        (np.array([0.5]), "expected record numbers"),
        (np.zeros(0, int), "expected record numbers"),
    ],
)
def test_foreign_record_numbers_are_refused(tmp_path, numbers, message):
    prepared(tmp_path / "x.lmdb", [cluster(index) for index in range(4)])
    np.save(tmp_path / "some.npy", numbers)
    with pytest.raises(MlipError, match=message):
        Files(tmp_path, SourceSettings()).open("x.lmdb@some.npy")
    with pytest.raises(MlipError, match="cannot be read as a file of record numbers"):
        Files(tmp_path, SourceSettings()).open("x.lmdb@x.lmdb.npy")


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {}])
def test_fractions_must_be_one_in_all(fractions):
    source = MadeUp(10)
    with pytest.raises(MlipError, match="expected positive shares"):
        split_records(Part(source, range(10)), fractions, "frame", 0)


def test_too_few_groups():
    source = MadeUp(3)
    with pytest.raises(MlipError, match="leaves nothing for"):
        split_records(Part(source, range(3)), FRACTIONS, "frame", 0)
