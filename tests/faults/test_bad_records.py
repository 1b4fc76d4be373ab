"""Damaged records among good ones: an error that names them, or left out and counted."""

import os

import numpy as np
import pytest

from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.data.frames import Frames
from mlip.data.sources.source import BadRecordError
from tests.data.sources.written import Call, FakeTorch, graph_fields, write_lmdb

GOOD = 6


def faulty(torch: FakeTorch, fault: str, marker) -> bytes:
    """A pickled graph with a fault."""
    fields = graph_fields()
    changes = {
        "cut": {},
        "label": {"energy": np.float32("nan").item()},
        "lengths": {"forces": fields["forces"][:-1]},
        "malicious": {"extra": Call(os.system, f"touch {marker}")},
    }[fault]
    whole = torch.graph(**fields | changes)
    return whole[:-200] if fault == "cut" else whole


@pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize("fault", ["cut", "label", "lengths", "malicious"])
def test_a_fault_stops_the_run_or_is_left_out_and_counted(tmp_path, monkeypatch, fault, stream):
    torch, marker = FakeTorch(monkeypatch), tmp_path / "was-run"
    good = [torch.graph(**graph_fields(seed)) for seed in range(GOOD)]
    records = [*good[:2], faulty(torch, fault, marker), *good[2:]]
    write_lmdb(tmp_path / "data.0000.lmdb", {b"%d" % i: data for i, data in enumerate(records)})
    write_lmdb(tmp_path / "valid.lmdb", {b"0": good[0]})
    wanted = {
        "name": "x", "root": tmp_path, "train": "data.0000.lmdb", "valid": "valid.lmdb",
        "e0": {"Cu": 0.0}, "stream": stream,
    }  # fmt: skip
    with pytest.raises(BadRecordError, match=r"#2: .*To leave .* set dataset\.on_bad_record=skip"):
        load_dataset(DatasetSettings(**wanted))
    dataset = load_dataset(DatasetSettings(**wanted, on_bad_record="skip"))
    (note,) = [note for note in dataset.notes if "cannot be used" in note]
    assert note.startswith("train: left out 1 of 7 records that cannot be used: data.0000.lmdb#2: ")
    found = dataset.sample("train")
    assert [s.energy for s in found] == [graph_fields(seed)["energy"] for seed in range(GOOD)]
    assert isinstance(dataset.train, Frames) == stream
    assert not marker.exists()
