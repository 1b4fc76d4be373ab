import numpy as np
import pytest
from ase.io import write

from mlip.data import dataset as module
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.data.files import Files
from mlip.data.inspection import inspect_subsets
from mlip.data.prepare import prepare
from mlip.data.sources.registry import SourceSettings
from mlip.errors import MlipError

RARE = 37


@pytest.fixture
def frames(tmp_path, monkeypatch, make_water):
    """Forty frames, one with an element that the sample of ten does not show."""
    monkeypatch.setattr(module, "SAMPLE", 10)
    waters = [make_water(seed) for seed in range(40)]
    waters[RARE].symbols[0] = "S"
    write(tmp_path / "a.xyz", waters)
    write(tmp_path / "a.db", waters)
    prepare(str(tmp_path / "a.xyz"), tmp_path / "a.lmdb", SourceSettings(), cutoff=None, workers=0)
    return tmp_path


def load(folder, name, **changes):
    values = {"name": "x", "root": folder, "train": name, "stream": True, "e0": "least_squares"}
    return load_dataset(DatasetSettings(**values | changes))


def test_prepared_data_know_their_elements_and_e0(frames):
    dataset = load(frames, "a.lmdb")
    assert all(16 not in structure.numbers for structure in dataset.sample("train"))
    assert dataset.elements == (1, 8, 16)
    whole = load(frames, "a.lmdb", stream=False, valid="a.xyz@:3").e0
    assert dataset.e0.values == pytest.approx(whole.values, abs=1e-6)
    assert dataset.e0.origin == "least squares over 40 structures, which fix only 2 of 3 values " \
        "(too few compositions): not meaningful for other compositions"  # fmt: skip


def test_several_prepared_files_are_fitted_together(frames):
    for name, part in (("one", "@:20"), ("two", "@20:")):
        settings, output = SourceSettings(), frames / f"{name}.lmdb"
        prepare(f"{frames}/a.xyz{part}", output, settings, cutoff=None, workers=0)
    whole, both = load(frames, "a.lmdb"), load(frames, ["two.lmdb", "one.lmdb"])
    assert both.e0.values == pytest.approx(whole.e0.values, abs=1e-6)
    assert both.elements == whole.elements
    with pytest.raises(MlipError, match="contain S, but no frame of the sample"):
        load(frames, ["two.lmdb", "a.xyz@:30"])  # the other file does not know its sums


def test_an_element_that_a_file_names_needs_an_e0_before_training(frames):
    with pytest.raises(MlipError, match=r"the training data contain S, but no frame of the sample"):
        load(frames, "a.db")
    energies = {"H": -13.0, "O": -2040.0, "S": -10_000.0}
    assert load(frames, "a.db", e0=energies).elements == (1, 8, 16)
    assert load(frames, "a.xyz").elements == (1, 8)  # only reading all of it would tell
    np.savez(frames / "e0.npz", coeff=np.full(17, -10.0))
    assert 16 in load(frames, "a.db", e0="e0.npz").elements


def test_an_inspection_knows_the_elements_that_files_name(frames, make_water):
    files = Files(frames, SourceSettings())
    atoms = make_water(50)
    atoms.symbols[0] = "S"
    write(frames / "other.xyz", atoms)
    rest = {"other": [files.open("other.xyz")]}
    for name, known in (("a.lmdb@:30", True), ("a.xyz@:30", False)):
        found = inspect_subsets({"a": [files.open(name)], **rest}, sample=10, cutoff=3.0)
        lines = [line for line in found.findings.fatal if line.startswith("other contains S")]
        assert [("the sample of the training data does not" in line) for line in lines] == (
            [] if known else [True]
        )
