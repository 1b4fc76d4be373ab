"""Make `datasets/quickstart`: the 3BPA molecule sampled by GFN2-xTB molecular dynamics.

    pip install tblite==0.8.0 ase==3.29.0
    OMP_NUM_THREADS=1 python scripts/make_quickstart_dataset.py

Every trajectory starts from the relaxed molecule, is scattered over its torsions by a hot run, then
equilibrated at its own temperature, and belongs to one subset only: training, validation and
test frames never share a trajectory. Labels are computed anew, with tight convergence, at exactly
the coordinates that are written. Runs for 20 to 45 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import BFGS
from tblite.ase import TBLite

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "quickstart"
SEED = 20240
UNPAIRED = {"H": 1, "C": 2, "N": 3, "O": 2}  # ground states 2S, 3P, 4S, 3P
DECIMALS = 8  # of the extended XYZ writer
INTERVAL_FS = 30.0
SCATTER_K, SCATTER_FS, EQUILIBRATE_FS = 600.0, 500.0, 500.0
FRICTION = 0.02 / units.fs
DYNAMICS_ACCURACY, LABEL_ACCURACY = 1.0, 0.01  # multiples of tblite's SCF thresholds


class Subset(NamedTuple):
    """One output file: `trajectories` runs of `frames` frames each."""

    name: str
    temperature: float
    trajectories: int
    frames: int


class Job(NamedTuple):
    """One trajectory, with its own seed."""

    subset: Subset
    trajectory: int
    start: Atoms
    seed: np.random.SeedSequence


SUBSETS = (
    Subset("train_300K", 300.0, 5, 100),
    Subset("valid_300K", 300.0, 2, 50),
    Subset("test_300K", 300.0, 2, 50),
    Subset("test_600K", 600.0, 2, 50),
    Subset("test_1200K", 1200.0, 2, 50),
)


def main() -> None:
    """Write the extended XYZ files."""
    parser = argparse.ArgumentParser(description="Make datasets/quickstart.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--processes", type=int, default=2, help="trajectories run at a time")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    write(arguments.output / "isolated_atoms.xyz", [isolated_atom(s) for s in UNPAIRED])
    start = relax(read(FOLDER / "start.xyz"))
    jobs = make_jobs(start)
    began = time.monotonic()
    frames: dict[str, list[Atoms]] = {subset.name: [] for subset in SUBSETS}
    with get_context("spawn").Pool(arguments.processes) as pool:
        for job, found in zip(jobs, pool.imap(run_trajectory, jobs), strict=True):
            frames[job.subset.name] += found
            minutes = (time.monotonic() - began) / 60
            print(f"{job.subset.name} trajectory {job.trajectory}: {minutes:.1f} min", flush=True)
    for name, found in frames.items():
        write(arguments.output / f"{name}.xyz", found)


def make_jobs(start: Atoms) -> list[Job]:
    """One job a trajectory, seeded independently of how the jobs are distributed."""
    plan = [(subset, i) for subset in SUBSETS for i in range(subset.trajectories)]
    seeds = np.random.SeedSequence(SEED).spawn(len(plan))
    return [Job(subset, i, start, seed) for (subset, i), seed in zip(plan, seeds, strict=True)]


def relax(molecule: Atoms) -> Atoms:
    """The GFN2-xTB minimum next to the given geometry."""
    molecule.calc = calculator(LABEL_ACCURACY)
    BFGS(molecule, logfile=None).run(fmax=0.01, steps=500)
    relaxed = molecule.copy()
    relaxed.calc = None
    return relaxed


def run_trajectory(job: Job) -> list[Atoms]:
    """Scatter, equilibrate, then sample one Langevin trajectory.

    Returns:
        The labelled frames, `INTERVAL_FS` apart.
    """
    generator = np.random.default_rng(job.seed)
    subset = job.subset
    molecule = job.start.copy()
    molecule.calc = calculator(DYNAMICS_ACCURACY)
    thermalize_momenta(molecule, temperature_K=SCATTER_K, rng=generator)
    advance(molecule, max(SCATTER_K, subset.temperature), SCATTER_FS, generator)
    advance(molecule, subset.temperature, EQUILIBRATE_FS, generator)
    frames = []
    for k in range(subset.frames):
        advance(molecule, subset.temperature, INTERVAL_FS, generator)
        frame = label(molecule)
        if longest_stretch(frame, job.start) > 1.5:
            raise RuntimeError(f"{subset.name}: a bond broke in trajectory {job.trajectory}.")
        frame.info["config_type"] = f"md_{subset.temperature:.0f}K"
        frame.info["trajectory"] = f"{subset.name}-{job.trajectory}"
        frame.info["time_fs"] = (k + 1) * INTERVAL_FS
        frames.append(frame)
    return frames


def advance(
    molecule: Atoms, temperature: float, duration_fs: float, generator: np.random.Generator
) -> None:
    """Run Langevin dynamics: 1 fs steps up to 600 K, 0.5 fs above."""
    timestep = 1.0 if temperature <= 600.0 else 0.5
    dynamics = Langevin(
        molecule,
        timestep * units.fs,
        temperature_K=temperature,
        friction=FRICTION,
        fixcm=False,
        rng=generator,
    )
    dynamics.run(round(duration_fs / timestep))


def label(molecule: Atoms) -> Atoms:
    """A copy with energy and forces at the centred, rounded coordinates that will be written."""
    positions = molecule.positions - molecule.positions.mean(axis=0)
    frame = Atoms(molecule.numbers, np.round(positions, DECIMALS))
    frame.calc = calculator(LABEL_ACCURACY)
    energy, forces = frame.get_potential_energy(), frame.get_forces()
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def isolated_atom(symbol: str) -> Atoms:
    """An atom in its ground-state multiplicity."""
    atom = Atoms(symbol, positions=np.zeros((1, 3)))
    atom.calc = calculator(LABEL_ACCURACY, multiplicity=UNPAIRED[symbol] + 1)
    energy = atom.get_potential_energy()
    atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
    atom.info.update(config_type="IsolatedAtom", spin=UNPAIRED[symbol])
    return atom


def calculator(accuracy: float, multiplicity: int = 1) -> TBLite:
    """GFN2-xTB; `accuracy` scales the SCF thresholds."""
    return TBLite(method="GFN2-xTB", accuracy=accuracy, multiplicity=multiplicity, verbosity=0)


def longest_stretch(frame: Atoms, start: Atoms) -> float:
    """The largest bond length relative to the same bond in the relaxed molecule."""
    first, second = neighbor_list("ij", start, natural_cutoffs(start, mult=1.2))
    lengths = [
        np.linalg.norm(molecule.positions[first] - molecule.positions[second], axis=1)
        for molecule in (frame, start)
    ]
    return float(np.max(lengths[0] / lengths[1]))


if __name__ == "__main__":
    main()
