"""Batches of a data set as `mlip train` gets them, in one process and in several."""

import json
import socket
import subprocess
import sys

import pytest

from mlip.cli.build import make_batches
from mlip.cli.compose import compose
from mlip.cli.schema import TrainConfig
from mlip.cli.validate import validate
from mlip.data.dataset import load_dataset
from mlip.errors import MlipError
from tests.support.cli import TINY

pytest_plugins = ("tests.support.cli",)

BATCH = 4
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
    words = [
        *TINY, f"dataset.root={folder}", "dataset.train=train.xyz", "dataset.valid=test.xyz",
        "dataset.isolated_atoms=atoms.xyz", f"dataset.stream={str(stream).lower()}",
        "dataset.workers=0",
    ]  # fmt: skip
    settings = validate(TrainConfig, compose("train", words))
    dataset = load_dataset(settings.dataset)
    return make_batches(dataset, settings.model, batch_size=BATCH, precision="float32", seed=3)


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
