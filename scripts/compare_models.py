"""Train models for the same time on the same data, and compare their errors.

Every model trains for the same wall-clock time, compilation included, on one core of its own; two
train at once on two cores. Then, on the test data: errors, how well the forces turn with the
molecule and with its mirror image, and on quickstart data the drift of the energy in 1 ps of
dynamics. Two trainings at once slow each other, and not all alike: on quickstart data the time of a
step is therefore measured once more at the end, with nothing beside.

    python scripts/compare_models.py quickstart
    python scripts/compare_models.py 3bpa dataset.root=3bpa --minutes 8
    python scripts/compare_models.py quickstart --models mace mace_so2 --cores 0

Models that are there already are not trained again; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

ROOT = Path(__file__).resolve().parent.parent
MLIP = [sys.executable, "-c", "import sys; from mlip.cli.main import main; sys.exit(main())"]
CONVOLUTION = "tensor_product@model.convolution"
PRODUCT = "tensor_product@model.product"
MACE = ["model=mace", "model.channels=32"]
TDN = ["model=tdn", "model.channels=64"]
SMALL_ESCN = ["model.lmax=2", "model.channels=32", "model.message_channels=16"]
MODELS = {
    "mace": ("MACE", MACE),
    "mace_gaunt": (
        "MACE, Gaunt on a grid",
        [*MACE, f"{CONVOLUTION}=gaunt_grid", f"{PRODUCT}=gaunt_grid"],
    ),
    "mace_path_shared": ("MACE, path-shared", [*MACE, f"{CONVOLUTION}=path_shared"]),
    "mace_so2": ("MACE, SO(2)", [*MACE, f"{CONVOLUTION}=so2"]),
    "mace_cp": ("MACE, CP exact", [*MACE, f"{CONVOLUTION}=cp"]),
    "tdn_paper_rank": ("TDN, CP at the published rank", [*TDN, f"{CONVOLUTION}=cp_paper"]),
    "tdn_cp": ("TDN, CP exact", [*TDN, f"{CONVOLUTION}=cp"]),
    "tdn": ("TDN, fused exact", [*TDN, f"{CONVOLUTION}=path_shared"]),
    "escn": ("eSCN", ["model=escn", *SMALL_ESCN]),
    "nequip": ("NequIP", ["model=nequip", "model.channels=32"]),
}
DATA = {
    "quickstart": ["experiment=quickstart"],
    "3bpa": ["experiment=3bpa"],
    "pubchemqcr_mini": ["experiment=quickstart", "dataset=pubchemqcr_mini"],
}
THOROUGH = ("quickstart",)  # data on which dynamics are run, and steps timed alone
START = "start.xyz"  # of the dynamics
DYNAMICS = ["md.ensemble=nve", "md.timestep=0.5", "md.time=1"]
TURNED = 20  # structures, the first of the first test set


def on_core(core: int, arguments: Sequence[str], log: Path) -> int:
    """Run a command on one core, its output in a file; its exit code.

    Every folder has its own cache of compiled programs, so that all compile theirs.
    """
    own = {"NPROC": "1", "XDG_CACHE_HOME": str(log.parent / "cache")}
    with log.open("a") as file:
        done = subprocess.run(
            arguments,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            env=os.environ | own,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    return done.returncode


def must(core: int, arguments: Sequence[str], log: Path) -> None:
    """Run a command on one core; stop if it fails."""
    if on_core(core, arguments, log):
        raise SystemExit(f"{' '.join(arguments)} failed, see {log}")


def done(folder: Path, data: str) -> bool:
    """Whether all is there that the table needs of a model."""
    last = "md/md.csv" if data in THOROUGH else "measured.json"
    return (folder / last).exists()


def train_one(name: str, folder: Path, core: int, arguments: argparse.Namespace) -> None:
    """Train, measure and run dynamics, unless that is done."""
    if done(folder, arguments.data):
        return
    folder.mkdir(parents=True, exist_ok=True)
    words = [*DATA[arguments.data], *arguments.overrides, *MODELS[name][1]]
    limit = f"trainer.max_minutes={arguments.minutes}"
    log = folder / "log.txt"
    print(f"{name}: training on core {core}, see {log}", flush=True)
    must(core, [*MLIP, "train", *words, limit, f"run.dir={folder}"], log)
    must(core, [sys.executable, __file__, "--measure", str(folder)], log)
    if arguments.data not in THOROUGH:
        return
    model = [f"model={folder / 'model.mlip'}"]
    where = [f"structure={folder / START}", f"run.dir={folder / 'md'}"]
    if on_core(core, [*MLIP, "md", *model, *where, *DYNAMICS], log):
        print(f"{name}: the dynamics stopped, see {log}", flush=True)


def time_alone(name: str, folder: Path, core: int, arguments: argparse.Namespace) -> None:
    """Some more steps of the same training, with nothing beside it."""
    alone = folder / "alone"
    if (alone / "evaluation.json").exists():
        return
    words = [*DATA[arguments.data], *arguments.overrides, *MODELS[name][1], "dataset.tests={}"]
    limits = ["trainer.max_minutes=null", "trainer.max_steps=60", "trainer.log_steps=10"]
    print(f"{name}: steps alone on core {core}", flush=True)
    must(core, [*MLIP, "train", *words, *limits, f"run.dir={alone}"], folder / "log.txt")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run has recorded."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def step_of(records: Sequence[dict[str, Any]]) -> float:
    """Median time of a training step, ms."""
    return statistics.median(one["step_ms"] for one in records if one["kind"] == "train")


def test_structures(folder: Path) -> list[Atoms]:
    """The first structures of the run's first test set."""
    from omegaconf import OmegaConf

    from mlip.data.dataset import load_dataset
    from mlip.data.dataset_settings import DatasetSettings
    from mlip.data.writers import to_atoms

    settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml").dataset)
    first = next(iter(load_dataset(DatasetSettings(**settings)).tests.values()))
    return [to_atoms(first[index]) for index in range(TURNED)]


def measure(folder: Path) -> None:
    """What is not in the run's own files: how well the forces turn; where dynamics starts."""
    import ase.io
    import numpy as np
    from scipy.spatial.transform import Rotation

    import mlip
    from mlip import runtime

    runtime.prepare()
    potential = mlip.load(folder / "model.mlip")
    plain = test_structures(folder)
    rotations = Rotation.random(TURNED, rng=0).as_matrix()
    before = [one.forces for one in potential.predict(plain)]
    rms = np.sqrt(np.mean(np.square(np.concatenate(before))))
    largest = {}
    for name, sign in (("rotation_error", 1.0), ("inversion_error", -1.0)):
        turned = [atoms.copy() for atoms in plain]
        for atoms, rotation in zip(turned, rotations, strict=True):
            atoms.positions = sign * atoms.positions @ rotation.T
        after = [one.forces for one in potential.predict(turned)]
        pairs = zip(before, after, rotations, strict=True)
        errors = [np.abs(sign * f @ r.T - g).max() for f, g, r in pairs]
        largest[name] = float(max(errors) / rms)
    plain[0].calc = None
    ase.io.write(folder / START, plain[0])
    (folder / "measured.json").write_text(json.dumps(largest, indent=1) + "\n")


def drift_of(folder: Path) -> str:
    """Drift of the energy in the dynamics, meV/atom/ps, and when it stopped if it did."""
    import ase.io

    from mlip.simulation.md_log import fit_drift, read_log

    log = read_log(folder / "md" / "md.csv")
    atoms = len(ase.io.read(folder / START))
    drift = fit_drift(log["time_ps"], 1000.0 * log["total_ev"] / atoms)
    last = log["time_ps"][-1]
    return f"{drift.slope:+.3f}" + ("" if last > 0.999 else f" (stopped after {last:.2f} ps)")


def row(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Header and cells of one model."""
    records = metrics(folder)
    steps = [one for one in records if one["kind"] == "train"]
    compiled = [one["seconds"] for one in records if one.get("event") == "compile"]
    start = next(one for one in records if one.get("event") == "start")
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    errors = json.loads((folder / "evaluation.json").read_text())
    cells = {
        "model": MODELS[name][0],
        "parameters": f"{start['num_parameters']:,}",
        "step (ms)": f"{step_of(records):.0f}",
        "steps": f"{steps[-1]['step']:,}",
        "compile (s)": f"{sum(compiled):.0f}",
    }
    for subset, values in errors.items():
        if subset != "valid":
            energy, forces = values["energy_rmse_mev_per_atom"], values["forces_rmse_mev_per_a"]
            cells[f"{subset}: energy / force"] = f"{energy:.2f} / {forces:.1f}"
    cells |= {
        "rotation": f"{measured['rotation_error']:.0e}",
        "inversion": f"{measured['inversion_error']:.0e}",
    }
    if (folder / "md" / "md.csv").exists():
        cells["drift"] = drift_of(folder)
    if (folder / "alone" / "evaluation.json").exists():
        cells["step alone (ms)"] = f"{step_of(metrics(folder / 'alone')):.0f}"
    return list(cells), list(cells.values())


def table(names: Sequence[str], folder: Path) -> str:
    """All models that are there, as Markdown."""
    rows = [row(name, folder / name) for name in names if done(folder / name, folder.name)]
    if not rows:
        return ""
    header = rows[0][0]
    lines = [header, ["---"] * len(header), *(cells for _, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", choices=DATA, default="quickstart")
    parser.add_argument("overrides", nargs="*", help="further words of `mlip train`")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training")
    parser.add_argument("--cores", type=int, nargs="+", default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "models")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    folder = arguments.out / arguments.data
    free: SimpleQueue[int] = SimpleQueue()
    for core in arguments.cores:
        free.put(core)

    def job(name: str) -> None:
        core = free.get()
        try:
            train_one(name, folder / name, core, arguments)
        finally:
            free.put(core)

    with ThreadPoolExecutor(len(arguments.cores)) as pool:
        list(pool.map(job, arguments.models))
    if arguments.data in THOROUGH:
        for name in arguments.models:
            time_alone(name, folder / name, arguments.cores[0], arguments)
    text = table(list(MODELS), folder)
    (folder / "table.md").write_text(text)
    print(text)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
