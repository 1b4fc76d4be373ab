"""Train on generated data of several sizes: memory, step time and time waited for data.

Writes an ASE-LMDB of small distorted molecules with the labels of a pair potential for each number
of frames, trains some hundred steps on it, streamed, in a process of its own, and prints a line
for each: resident memory of the main process and of the workers together, anonymous (their own)
and file-backed (pages of the data file among them, which the system takes back when it needs
room), the largest seen while training; the median step; the share of it spent waiting for data.

    python scripts/measure_streaming.py 10000 100000 1000000 [--folder DIR] [--steps 300]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
from ase import Atoms
from ase.build import molecule

MOLECULES = ("CH3CH2OH", "CH3CONH2", "C3H8", "CH3OCH3", "C6H6", "H2CCHCN", "CH3COCH3", "C4H4NH")
E0 = {"H": -13.6, "C": -1029.5, "N": -1485.0, "O": -2042.0}
CHUNK = 20_000  # frames of one transaction


def generate(path: Path, frames: int) -> None:
    """Write the molecules, distorted at random, with Morse energies and forces."""
    generator = np.random.default_rng(0)
    templates = [molecule(name) for name in MOLECULES]
    with lmdb.open(str(path), subdir=False, map_size=2**40, sync=False) as environment:
        for first in range(0, frames, CHUNK):
            with environment.begin(write=True) as transaction:
                for index in range(first, min(first + CHUNK, frames)):
                    row = make_row(templates[generator.integers(len(templates))], generator)
                    transaction.put(b"%d" % (index + 1), packed(row))
        with environment.begin(write=True) as transaction:
            transaction.put(b"nextid", packed(frames + 1))
            transaction.put(b"deleted_ids", packed([]))
            transaction.put(b"metadata", packed({}))


def packed(value: object) -> bytes:
    return zlib.compress(json.dumps(value).encode())


def make_row(template: Atoms, generator: np.random.Generator) -> dict:
    positions = template.positions + generator.normal(scale=0.05, size=(len(template), 3))
    energy, forces = morse(positions)
    energy += sum(E0[symbol] for symbol in template.symbols)
    arrays = {"numbers": template.numbers, "positions": positions, "forces": forces}
    encoded = {
        name: {"__ndarray__": [list(a.shape), a.dtype.name, np.round(a, 6).ravel().tolist()]}
        for name, a in arrays.items()
    }
    return {"pbc": [False] * 3, "energy": energy, **encoded}


def morse(positions: np.ndarray) -> tuple[float, np.ndarray]:
    difference = positions[:, None] - positions[None, :]
    r = np.sqrt((difference**2).sum(-1) + np.eye(len(positions)))
    decay = np.exp(-1.5 * (r - 1.6))
    off = 1.0 - np.eye(len(positions))
    energy = 0.5 * float(np.sum(off * 0.3 * (decay**2 - 2 * decay)))
    slope = off * 0.3 * (-3.0 * decay**2 + 3.0 * decay)
    return energy, -np.einsum("ij,ijx->ix", slope / r, difference)


class Memory(NamedTuple):
    """Resident memory, MB."""

    anonymous: float
    file: float


def resident(process: int) -> Memory:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return Memory(*(int(values[key]) / 1e3 for key in ("RssAnon", "RssFile")))


def workers() -> list[int]:
    """Process numbers of the workers."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


class Watch(threading.Thread):
    """Looks at the memory twice a second and keeps the largest values."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = {"main": Memory(0, 0), "workers": Memory(0, 0)}

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            found = {"main": [os.getpid()], "workers": workers()}
            for name, processes in found.items():
                try:
                    now = [resident(process) for process in processes]
                except (OSError, KeyError):  # one has just ended
                    continue
                total = Memory(sum(m.anonymous for m in now), sum(m.file for m in now))
                self.largest[name] = Memory(*map(max, self.largest[name], total))
            time.sleep(0.5)


def train(path: Path, options: argparse.Namespace) -> dict:
    """Train on one file; the numbers of its line."""
    from mlip import runtime
    from mlip.cli.build import fit_data, load_and_check, make_batches, new_model
    from mlip.cli.compose import compose
    from mlip.cli.schema import TrainConfig
    from mlip.cli.validate import validate

    e0 = "{" + ", ".join(f"{symbol}: {energy}" for symbol, energy in E0.items()) + "}"
    overrides = [
        f"dataset.train={path}",
        f"dataset.e0={e0}",
        "dataset.valid_count=200",
        "dataset.stream=true",
        f"dataset.workers={options.workers if options.workers is not None else 'null'}",
        f"model={options.model}",
        f"trainer.batch_size={options.batch_size}",
        f"trainer.max_steps={options.steps}",
        "trainer.max_epochs=null",
        f"trainer.validate_steps={options.steps}",
        *options.override,
    ]
    settings = validate(TrainConfig, compose("train", overrides))
    runtime.prepare(settings.trainer.precision)
    watch = Watch()
    watch.start()
    start = time.perf_counter()
    dataset, _ = load_and_check(settings.dataset, settings.model.cutoff)
    trainer = settings.trainer
    data = make_batches(
        dataset,
        settings.model,
        batch_size=trainer.batch_size,
        precision=trainer.precision,
        seed=trainer.seed,
    )
    print(repr(data.train))
    prepared = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as run_dir:
        model = new_model(data.config, seed=0, precision=trainer.precision)
        result = fit_data(settings, data, model, run_dir)
    timing = result.timing
    return {
        "prepared_s": prepared,
        "step_ms": timing.train_step_ms,
        "data_wait": timing.data_wait_share,
        "compilations": len(result.compilations),
        "padding": data.train.padding_share,
        **{f"{name}_anonymous": memory.anonymous for name, memory in watch.largest.items()},
        **{f"{name}_file": memory.file for name, memory in watch.largest.items()},
    }


HEADER = """\
|    frames | file MB | prepared s | main anon. MB | main file MB | workers anon. MB | \
workers file MB | step ms | data wait |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("frames", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--model", default="mace_small")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--override", action="append", default=[], help="further key=value")
    parser.add_argument("--one", action="store_true", help="train in this process, print JSON")
    options = parser.parse_args()
    paths = [options.folder / f"streaming_{frames}.aselmdb" for frames in options.frames]
    if options.one:
        print(json.dumps(train(paths[0], options)))
        return
    lines = [HEADER]
    for frames, path in zip(options.frames, paths, strict=True):
        if not path.exists():
            start = time.perf_counter()
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            generate(partial, frames)
            partial.rename(path)
            path.with_name(f"{partial.name}-lock").unlink(missing_ok=True)
            print(f"{path}: {frames} frames in {time.perf_counter() - start:.0f} s", flush=True)
        arguments = [word for word in sys.argv[1:] if word not in map(str, options.frames)]
        command = [sys.executable, __file__, str(frames), "--one", *arguments]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}  # as `mlip` does
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        output = done.stdout
        print(output, flush=True)
        found = json.loads(output.splitlines()[-1])
        lines.append(
            f"| {frames:>9,} | {path.stat().st_size / 1e6:.0f} | {found['prepared_s']:.0f} "
            f"| {found['main_anonymous']:.0f} | {found['main_file']:.0f} "
            f"| {found['workers_anonymous']:.0f} | {found['workers_file']:.0f} "
            f"| {found['step_ms']:.0f} | {found['data_wait']:.2%} |"
        )
    print("\n".join(lines))


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
