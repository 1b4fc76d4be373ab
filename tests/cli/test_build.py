"""Batches of a data set as `mlip train` gets them, in one process and in several."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

from mlip.cli.build import make_batches
from mlip.cli.compose import compose
from mlip.cli.schema import TrainConfig
from mlip.cli.train import _shared_by_resumed_runs
from mlip.cli.validate import validate
from mlip.data.dataset import load_dataset
from mlip.errors import MlipError
from mlip.tensor_products import cp, cp_fits
from mlip.training.checkpoints import Checkpoints
from mlip.training.loop import fit
from tests.support.cli import TINY
from tests.support.training import fit_arguments

pytest_plugins = ("tests.support.cli",)

BATCH = 4
PROCESS = """
import json, sys
import jax
port, index, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
from tests.cli.test_build import batches
data = batches(folder, stream=True)
print(json.dumps([[batch.identifiers for batch in side.epoch(0)]
                  for side in (data.train, data.valid)]))
"""


def settings_of(folder, *more, stream):
    words = [
        *TINY, f"dataset.root={folder}", "dataset.train=train.xyz", "dataset.valid=test.xyz",
        "dataset.isolated_atoms=atoms.xyz", f"dataset.stream={str(stream).lower()}", *more,
    ]  # fmt: skip
    return validate(TrainConfig, compose("train", words))


def batches(folder, *, stream):
    return batches_of(settings_of(folder, stream=stream))


def batches_of(settings):
    dataset = load_dataset(settings.dataset)
    return make_batches(dataset, settings.model, batch_size=BATCH, precision="float32", seed=3)


def test_a_run_is_not_resumed_with_another_fit(data_folder, tmp_path, monkeypatch):
    """As on another machine, where the same decomposition is fitted to other numbers."""
    monkeypatch.setattr(cp_fits, "_known", {})
    words = ("model.lmax=1", "model.convolution={name: cp, rank: 3}")
    settings = settings_of(data_folder, *words, stream=False)
    data = batches_of(settings)
    before = _shared_by_resumed_runs(settings, data)
    checkpoints = Checkpoints(tmp_path, 1, print)
    checkpoints.save(1, {"weights": np.zeros(1)}, {"settings": before})
    checkpoints.wait()
    assert checkpoints.newest(_shared_by_resumed_runs(settings, data), set()).step == 1
    monkeypatch.setattr(cp_fits, "_known", {})
    monkeypatch.setattr(cp, "SEEDS", [17])
    with pytest.raises(MlipError, match=r"other settings: fitted on this machine\.\w+_3 was '"):
        checkpoints.newest(_shared_by_resumed_runs(settings, data), set())
    checkpoints.close()


def names(found):
    return sorted(name for batch in found for name in batch)


@pytest.mark.slow
def test_two_processes_get_their_shares(data_folder, root):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, port, str(index), str(data_folder)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
        for index in range(2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers[0][1]
    shares, valids = zip(
        *(json.loads(output.splitlines()[-1]) for output, _ in answers), strict=True
    )
    whole = batches(data_folder, stream=True)
    alone = [batch.identifiers for batch in whole.train.epoch(0)]
    assert [len(share) for share in shares] == [4, 4]
    assert {len(batch) for share in shares for batch in share} == {BATCH // 2}
    assert names([*shares[0], *shares[1]]) == names(alone)
    assert list(valids) == 2 * [[batch.identifiers for batch in whole.valid.epoch(0)]]


def test_the_share_is_that_of_the_process(data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    data = batches(data_folder, stream=True)
    assert {len(batch.identifiers) for batch in data.train.epoch(0)} == {BATCH // 2}
    assert len(names(batch.identifiers for batch in data.valid.epoch(0))) == 6
    with pytest.raises(MlipError, match=r"in memory, and JAX runs in 2 processes"):
        batches(data_folder, stream=False)
    with pytest.raises(MlipError, match="gradients are not averaged between processes"):
        fit(None, data.train, data.valid, **fit_arguments(tmp_path))
