"""SIGKILL at any moment, also while a checkpoint is being written: nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

NEVER = 10**9  # a step that is not reached


def start(root, run_dir, *words):
    """Start the toy in a process of its own."""
    command = [sys.executable, root / "tests/support/train_toy.py", run_dir, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def train(root, run_dir, *words):
    """Run the toy to its end."""
    process = start(root, run_dir, *words)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def test_a_killed_run_ends_bitwise_equal_to_one_that_was_not(root, tmp_path):
    # In the middle of an epoch, and as every step is saved, while a checkpoint is being written.
    killed = train(root, tmp_path / "killed", 8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Then from outside, at random times.
    random = np.random.default_rng(0)
    signals = []
    for _ in range(2):
        process = start(root, tmp_path / "killed", NEVER)
        wait_for_the_first_row(process, tmp_path / "killed" / "metrics.jsonl")
        time.sleep(random.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        signals.append(process.returncode)
    assert -signal.SIGKILL in signals, "every process ended before it was killed"
    resumed = train(root, tmp_path / "killed")
    whole = train(root, tmp_path / "whole")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr + whole.stderr
    assert resumed.stdout == whole.stdout
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole")
    assert 1 <= events(tmp_path / "killed").count("resume") <= 3


def test_so_does_a_streamed_run_with_another_number_of_workers(root, tmp_path):
    killed = train(root, tmp_path / "killed", 37, 2)  # within a window of the second epoch
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = train(root, tmp_path / "killed", 0, 1)
    whole = train(root, tmp_path / "whole", 0, 0)
    assert resumed.returncode == whole.returncode == 0, resumed.stderr + whole.stderr
    assert resumed.stdout == whole.stdout
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole")


def wait_for_the_first_row(process, path):
    """Until a process has written to the table of a run, or to that of a run that it resumed."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.01)


def read(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def validations(run_dir):
    return [(row["step"], row["loss"]) for row in read(run_dir) if row["kind"] == "valid"]


def events(run_dir):
    return [row["event"] for row in read(run_dir) if row["kind"] == "event"]
