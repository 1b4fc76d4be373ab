"""SIGKILL at any moment, also while a checkpoint is being written: nothing is lost."""

import json
import os
import signal
import subprocess
import sys


def train(root, run_dir, kill_at=0, *workers):
    """Run the toy in a process of its own."""
    words = [str(kill_at), *map(str, workers)]
    command = [sys.executable, root / "tests/support/train_toy.py", run_dir, *words]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_killed_run_ends_bitwise_equal_to_one_that_was_not(root, tmp_path):
    # In the middle of an epoch, and as every step is saved, while a checkpoint is being written.
    killed = train(root, tmp_path / "killed", 8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = train(root, tmp_path / "killed")
    whole = train(root, tmp_path / "whole")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr + whole.stderr
    assert resumed.stdout == whole.stdout
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole")
    assert events(tmp_path / "killed").count("resume") == 1


def test_so_does_a_streamed_run_with_another_number_of_workers(root, tmp_path):
    killed = train(root, tmp_path / "killed", 45, 2)  # within a window of the second epoch
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = train(root, tmp_path / "killed", 0, 1)
    whole = train(root, tmp_path / "whole", 0, 0)
    assert resumed.returncode == whole.returncode == 0, resumed.stderr + whole.stderr
    assert resumed.stdout == whole.stdout
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole")


def read(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def validations(run_dir):
    return [(row["step"], row["loss"]) for row in read(run_dir) if row["kind"] == "valid"]


def events(run_dir):
    return [row["event"] for row in read(run_dir) if row["kind"] == "event"]
