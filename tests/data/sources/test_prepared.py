import json
import pickle
from dataclasses import fields, replace

import lmdb
import numpy as np
import pytest

from mlip.data.prepared_file import Piece, writing
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.prepared import ABOUT, FORMAT, PreparedSource, decode, encode
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.structure import Structure
from mlip.data.tally import Tally
from mlip.errors import MlipError

FULL = Structure(
    numbers=np.array([29, 8, 1], np.int32),
    positions=np.random.default_rng(0).normal(size=(3, 3)),
    cell=np.diag([4.0, 5.0, 6.0]) + 0.1,
    pbc=np.array([True, True, False]),
    energy=-1234.567890123456,
    forces=np.random.default_rng(1).normal(size=(3, 3)),
    stress=np.eye(3) / 7,
    charge=-1.0,
    spin=2.0,
    fixed=np.array([True, False, False]),
    weight=0.5,
    identifier="somewhere.xyz#17",
    group="surface Å",
    tags=np.array([0, 1, 2], np.int32),
)
BARE = Structure(numbers=np.array([1], np.int32), positions=np.zeros((1, 3)), identifier="b#0")


def assert_same(found: Structure, expected: Structure) -> None:
    """All but the name, to the last bit."""
    for field in fields(Structure):
        if field.name == "identifier":
            continue
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def prepared(path, structures, **about):
    """A complete file of these structures."""
    content = {"format": FORMAT, "energy_reference": "total", "notes": [], **about}
    with writing(path, content) as file:
        records = [encode(s, f"walk {number // 2}") for number, s in enumerate(structures)]
        file.add(Piece(records, [len(s) for s in structures], len(structures), [], Tally()))
        file.finish()
    return path


@pytest.mark.parametrize("structure", [FULL, BARE], ids=["full", "bare"])
def test_a_record_holds_everything_exactly(structure):
    found = decode(encode(structure, "walk"), "x.lmdb#3")
    assert_same(found, structure)
    assert found.identifier == f"x.lmdb#3 ({structure.identifier})"


def test_single_precision_is_stored_as_such_and_comes_back_exactly():
    single = replace(FULL, positions=FULL.positions.astype(np.float32).astype(np.float64))
    assert len(encode(single, "")) == len(encode(FULL, "")) - 3 * 3 * 4
    assert_same(decode(encode(single, ""), "x"), single)


def test_the_file_is_a_source(tmp_path):
    structures = [FULL, BARE, FULL]
    source = open_source(prepared(tmp_path / "data.lmdb", structures))
    assert isinstance(source, PreparedSource)
    assert len(source) == 3
    np.testing.assert_array_equal(source.sizes(), [3, 1, 3])
    assert [source.num_atoms(index) for index in range(3)] == [3, 1, 3]
    assert [source.trajectory(index) for index in range(3)] == ["walk 0", "walk 0", "walk 1"]
    for found, expected in zip(pickle.loads(pickle.dumps(source)), structures, strict=True):
        assert_same(found, expected)


def test_a_label_whose_key_is_null_is_not_read(tmp_path):
    path = prepared(tmp_path / "data.lmdb", [FULL])
    keys = LabelKeys(forces=None, stress=None)
    (structure,) = open_source(path, SourceSettings(keys=keys))
    assert structure.forces is None
    assert structure.stress is None
    assert structure.energy == FULL.energy


def test_energies_count_from_what_the_file_says(tmp_path):
    path = prepared(tmp_path / "data.lmdb", [FULL], energy_reference="referenced")
    assert open_source(path).energy_reference == "referenced"
    with pytest.raises(MlipError, match="holds referenced energies, which cannot be converted"):
        open_source(path, SourceSettings(energy_reference="total"))


def test_other_versions_are_refused(tmp_path):
    path = prepared(tmp_path / "data.lmdb", [BARE])
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(ABOUT, json.dumps({"format": 99}).encode())
    with pytest.raises(MlipError, match=r"another version .format 99"):
        open_source(path)
