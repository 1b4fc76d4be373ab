"""Batches of a data set as `mlip train` gets them, in one process and in several."""

import json
import socket
import subprocess
import sys

import pytest

from mlip.cli.build import make_batches
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.errors import MlipError
from mlip.models.mace import MACEConfig
from tests.support.training import E0

pytest_plugins = ("tests.support.cli",)

BATCH, CUTOFF = 4, 4.0
PROCESS = """
import json, sys
import jax
port, index, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
from mlip.errors import MlipError
from tests.cli.test_build import batches
from tests.support.training import PairModel, fit_arguments
from mlip.training.loop import fit
data = batches(folder, stream=True)
found = {"train": [batch.identifiers for batch in data.train.epoch(0)],
         "valid": [batch.identifiers for batch in data.valid.epoch(0)], "errors": []}
for use in (lambda: batches(folder, stream=False),
            lambda: fit(PairModel(), data.train, None, **fit_arguments(f"{folder}/{index}"))):
    try:
        use()
    except MlipError as error:
        found["errors"].append(str(error))
print(json.dumps(found))
"""


def batches(folder, *, stream):
    energies = {"H": E0[1], "O": E0[8]}
    settings = DatasetSettings(
        name="clusters", root=folder, train="train.xyz", valid="test.xyz", e0=energies,
        stream=stream, workers=0,
    )  # fmt: skip
    template = MACEConfig(channels=4, lmax=0, hidden_lmax=0, correlation=1, cutoff=CUTOFF)
    options = {"batch_size": BATCH, "precision": "float32", "seed": 3}
    return make_batches(load_dataset(settings), template, **options)


def names(found):
    return sorted(name for batch in found for name in batch)


@pytest.mark.slow
def test_two_processes_get_their_shares_and_may_not_train_apart(data_folder, root):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, port, str(index), str(data_folder)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
        for index in range(2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers[0][1]
    left, right = (json.loads(output.splitlines()[-1]) for output, _ in answers)
    whole = batches(data_folder, stream=True)
    alone = [batch.identifiers for batch in whole.train.epoch(0)]
    assert len(left["train"]) == len(right["train"]) == len(alone) == 4
    assert {len(batch) for batch in left["train"]} == {BATCH // 2}
    assert names(left["train"] + right["train"]) == names(alone)
    valid = [batch.identifiers for batch in whole.valid.epoch(0)]
    assert left["valid"] == right["valid"] == valid
    for in_memory, training in (left["errors"], right["errors"]):
        assert "dataset.train is in memory, and JAX runs in 2 processes" in in_memory
        assert "gradients are not averaged between processes" in training


def test_the_share_is_that_of_the_process(data_folder, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    data = batches(data_folder, stream=True)
    assert {len(batch.identifiers) for batch in data.train.epoch(0)} == {BATCH // 2}
    assert len(names(batch.identifiers for batch in data.valid.epoch(0))) == 6
    with pytest.raises(MlipError, match=r"in memory, and JAX runs in 2 processes"):
        batches(data_folder, stream=False)
