"""The conversation with a worker: one command a line to it, one JSON object a line back.

A worker is a process in a peer's environment. It sets up a model and data once, says what they
are, then runs one timed step for every command, so that several workers can be timed in turn.
This module and `frames.py` run in every peer's environment and import nothing of this project.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Step = Callable[[], Any]
ANSWER = "answer:"  # begins every line meant for the driver; libraries print other lines


class Setting(NamedTuple):
    """The work that is timed, the same for every worker.

    Attributes:
        xyz: training data, extended XYZ with energy and forces.
        channels: of the hidden features.
        hidden_lmax: highest degree of the hidden features.
        lmax: highest degree of the harmonics.
        correlation: highest order of the symmetric contraction.
        layers: number of interactions.
        num_bessel: radial functions.
        cutoff: Å.
        batch_size: structures in a training step.
        frames: structures read from the file.
    """

    xyz: str
    channels: int = 64
    hidden_lmax: int = 1
    lmax: int = 3
    correlation: int = 3
    layers: int = 2
    num_bessel: int = 8
    cutoff: float = 5.0
    batch_size: int = 5
    frames: int = 100

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(self._asdict())


def setting_from_arguments() -> Setting:
    """The setting that the driver passed to this worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", help="JSON")
    return Setting(**json.loads(parser.parse_args().setting))


def serve(describe: dict[str, Any], steps: dict[str, Step]) -> None:
    """Answer commands until there are none left.

    Args:
        describe: what is told of the worker: versions, number of parameters.
        steps: what is timed, by the command that runs it; each returns when it is done.
    """
    print(ANSWER, json.dumps(describe), flush=True)
    for line in sys.stdin:
        step = steps[line.strip()]
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        print(ANSWER, json.dumps({"seconds": seconds}), flush=True)


def worker_file(name: str) -> Path:
    """The script of a worker."""
    return Path(__file__).resolve().parent / f"{name}.py"
