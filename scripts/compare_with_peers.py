"""Time a training step and an ASE step of this project beside those of two others.

The same MACE on the same data (64x0e+64x1o, l_max 3, correlation 3, two layers, cutoff 5 Å,
batches of 5 structures, energy and forces, AMSGrad with a weight average, float32) by

- this project,
- mace-torch 0.3.16 (PyTorch on the CPU),
- InstaDeep's mlip 0.2.5 (JAX),

each in an environment of its own, which is made under `.venvs/` when it is absent. All of them
stay loaded and are timed in turn, A B C A B C …, so that a busy machine slows all alike: what
counts are the ratios within a turn. Batches are prepared beforehand and not timed.

    python scripts/compare_with_peers.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers.environments import ROOT, interpreter
from peers.protocol import ANSWER, Setting, worker_file

OURS = "jax-mlip"
KINDS = {"train": "training step", "ase": "ASE step"}


class Worker:
    """A process that runs one timed step for every command.

    Args:
        name: shown in the tables.
        script: in `scripts/peers/`, without the suffix.
        python: its interpreter.
        setting: the work.
    """

    def __init__(self, name: str, script: str, python: Path, setting: Setting) -> None:
        self.name = name
        print(f"{name}: starting", flush=True)
        start = time.perf_counter()
        command = [str(python), "-W", "ignore", str(worker_file(script)), setting.to_json()]
        # Compilation is timed as a user's first run has it: no program kept from an earlier one.
        environment = {**os.environ, "MLIP_COMPILATION_CACHE": "off"}
        if name == OURS:
            environment["PYTHONPATH"] = str(ROOT)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about: dict[str, Any] = self._answer()
        self.about["start_s"] = time.perf_counter() - start
        self.seconds: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}

    def first_step(self, kind: str) -> float:
        """Seconds of the first step, compilation included."""
        return self._step(kind)

    def turn(self, kind: str, steps: int) -> None:
        """Time some steps, after one that does not count: others ran in between."""
        self._step(kind)
        self.seconds[kind].append([self._step(kind) for _ in range(steps)])

    def median_ms(self, kind: str) -> float:
        """Median over all steps, ms."""
        return 1000.0 * float(np.median(self.seconds[kind]))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _step(self, kind: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        sys.exit(f"{self.name}: the worker ended with status {self._process.wait()}")


def compare(workers: list[Worker], turns: int, steps: int) -> dict[str, Any]:
    """Time all workers in turn and gather medians and ratios."""
    for worker in workers:
        for kind, label in KINDS.items():
            worker.about[f"first_{kind}_s"] = worker.first_step(kind)
            print(
                f"{worker.name}: first {label} {worker.about[f'first_{kind}_s']:.1f} s", flush=True
            )
        for kind in KINDS:
            worker.turn(kind, steps)
            worker.seconds[kind].clear()
    for turn in range(turns):
        for kind in KINDS:
            for worker in workers:
                worker.turn(kind, steps)
        shown = ", ".join(f"{w.name} {w.median_ms('train'):.0f} ms" for w in workers)
        print(f"turn {turn + 1} of {turns}: {shown}", flush=True)
    return {
        "workers": {worker.name: describe(worker) for worker in workers},
        "ratios": {kind: ratios(workers, kind) for kind in KINDS},
    }


def describe(worker: Worker) -> dict[str, Any]:
    """Everything known of a worker."""
    medians = {f"{kind}_step_ms": worker.median_ms(kind) for kind in KINDS}
    times = {f"{kind}_steps_ms": np.multiply(worker.seconds[kind], 1e3).tolist() for kind in KINDS}
    return {**worker.about, **medians, **times}


def ratios(workers: list[Worker], kind: str) -> dict[str, dict[str, float]]:
    """Time of each other worker over this project's, turn by turn."""
    by_turn = {w.name: np.median(w.seconds[kind], axis=1) for w in workers}
    ours = by_turn.pop(OURS)
    result = {}
    for name, theirs in by_turn.items():
        low, median, high = np.quantile(theirs / ours, [0.25, 0.5, 0.75])
        result[name] = {"median": float(median), "low": float(low), "high": float(high)}
    if by_turn:
        fastest = np.min(list(by_turn.values()), axis=0)
        result["the faster of them"] = {"median": float(np.median(fastest / ours))}
    return result


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| | training step | ASE step | first training step | first ASE step | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for name, about in results["workers"].items():
        versions = ", ".join(f"{key} {version}" for key, version in about["versions"].items())
        cells = [
            f"{name} ({versions})",
            f"{about['train_step_ms']:.0f} ms",
            f"{about['ase_step_ms']:.1f} ms",
            f"{about['first_train_s']:.1f} s",
            f"{about['first_ase_s']:.1f} s",
            f"{about['num_parameters']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| time over that of {OURS} | training step | ASE step |", "|---|---|---|"]
    for name in results["ratios"]["train"]:
        cells = [_range(results["ratios"][kind][name]) for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _range(ratio: dict[str, float]) -> str:
    if "low" not in ratio:
        return f"**{ratio['median']:.2f}**"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xyz", type=Path, default=ROOT / "datasets/quickstart/train_300K.xyz")
    parser.add_argument("--mace-python", type=Path, help="a Python that has mace-torch 0.3.16")
    parser.add_argument("--instadeep-python", type=Path, help="a Python that has mlip 0.2.5")
    parser.add_argument("--channels", type=int, default=Setting._field_defaults["channels"])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a turn")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "peers")
    arguments = parser.parse_args()
    setting = Setting(xyz=str(arguments.xyz.resolve()), channels=arguments.channels)
    mace = interpreter("mace-torch", arguments.mace_python)
    instadeep = interpreter("instadeep", arguments.instadeep_python)
    workers = [
        Worker(OURS, "ours", Path(sys.executable), setting),
        Worker("mace-torch", "mace_torch", mace, setting),
        Worker("InstaDeep mlip", "instadeep", instadeep, setting),
    ]
    results = {
        "setting": setting._asdict() | {"xyz": arguments.xyz.name},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **compare(workers, arguments.turns, arguments.steps),
    }
    for worker in workers:
        worker.close()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "peers.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "peers.md").write_text(table(results))
    print()
    print(table(results))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
