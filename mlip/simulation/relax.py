"""Relaxation of positions and, on request, of the cell."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from ase import units
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from pydantic import Field, model_validator
from rich.console import Console

from mlip.errors import MlipError
from mlip.progress import StepProgress, say
from mlip.settings import Settings
from mlip.simulation.calculator import MLIPCalculator
from mlip.simulation.records import AppendFile, frame_text, prepare_folder, write_atomically

if TYPE_CHECKING:
    from ase import Atoms
    from ase.optimize.optimize import Optimizer

    from mlip.potential import Potential

LOG, TRAJECTORY = "relax.csv", "trajectory.xyz"
RELAXED, UNCONVERGED = "relaxed.xyz", "unconverged.xyz"
OPTIMIZERS: dict[str, type[Optimizer]] = {"bfgs": BFGS, "lbfgs": LBFGS, "fire": FIRE}


class RelaxSettings(Settings):
    """Options of a relaxation."""

    optimizer: Literal["bfgs", "lbfgs", "fire"] = Field(
        "bfgs", description="bfgs: few steps; lbfgs: for many atoms; fire: robust"
    )
    fmax: float = Field(
        0.02,
        gt=0,
        description="converged when no force is larger, eV/Å; with relax_cell the "
        "forces on the cell are held to it too",
    )
    max_steps: int = Field(500, ge=0, description="give up after this many steps")
    relax_cell: bool = Field(False, description="relax the cell as well")
    pressure: float = Field(0.0, description="on the relaxing cell, GPa")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.relax_cell:
            self.require_default(["pressure"], "it acts on the cell, only for relax_cell=true")
        return self


class RelaxResult(NamedTuple):
    """What a relaxation came to.

    Attributes:
        atoms: the last structure.
        converged: whether no force is larger than asked for.
        steps: optimiser steps.
        energy: eV.
        max_force: largest force on an atom, eV/Å.
        path: file of the last structure.
    """

    atoms: Atoms
    converged: bool
    steps: int
    energy: float
    max_force: float
    path: Path


def run_relax(
    atoms: Atoms,
    potential: Potential,
    settings: RelaxSettings,
    run_dir: Path,
    *,
    console: Console | None = None,
) -> RelaxResult:
    """Relax a structure.

    Writes `relax.csv`, `trajectory.xyz` and the last structure: to `relaxed.xyz` if it converged,
    otherwise to `unconverged.xyz`. The result of an earlier relaxation in the folder is replaced.

    Args:
        atoms: start; not changed. Its constraints hold.
        potential: gives the forces.
        settings: of the relaxation.
        run_dir: made if missing.
        console: for progress; standard output by default.

    Raises:
        MlipError: if the folder cannot be written, the cell is to relax without periodicity in
            three directions or without a stress, or the potential gives values that are not finite.
    """
    run_dir = Path(run_dir)
    console = console or Console()
    if settings.relax_cell and not atoms.pbc.all():
        raise MlipError(
            "relax_cell=true needs periodicity in three directions, but pbc is "
            f"{atoms.pbc.tolist()}."
        )
    if settings.relax_cell and potential.direct_forces:
        raise MlipError(
            "relax_cell=true needs a stress, but the forces of this potential are not the gradient "
            "of its energy; relax the positions alone, or train with model.forces=gradient."
        )
    prepare_folder(run_dir)
    try:
        return _relax(atoms.copy(), potential, settings, run_dir, console)
    except OSError as error:
        raise MlipError(
            f"writing to {run_dir} failed ({error.strerror or error}); make room or choose "
            "another folder."
        ) from error


def _relax(
    atoms: Atoms, potential: Potential, settings: RelaxSettings, folder: Path, console: Console
) -> RelaxResult:
    for name in (RELAXED, UNCONVERGED):
        (folder / name).unlink(missing_ok=True)
    atoms.calc = MLIPCalculator(potential)
    target: Any = atoms
    if settings.relax_cell:
        target = FrechetCellFilter(atoms, scalar_pressure=settings.pressure * units.GPa)
    optimizer = OPTIMIZERS[settings.optimizer](target, logfile=None)
    log, trajectory = AppendFile(folder / LOG), AppendFile(folder / TRAJECTORY)
    log.write("step,energy_ev,max_force_ev_per_a,pressure_gpa,volume_a3\n")
    start = time.perf_counter()
    try:
        with StepProgress("relax", settings.max_steps, 0, console) as progress:
            for done in optimizer.irun(fmax=settings.fmax, steps=settings.max_steps):
                converged = bool(done)
                _require_finite(atoms, optimizer.nsteps)
                log.write(_row(atoms, optimizer.nsteps))
                trajectory.write(frame_text(atoms, step=optimizer.nsteps))
                energy, force = atoms.get_potential_energy(), _max_force(atoms)
                progress.update(
                    optimizer.nsteps, f"E {energy:.5f} eV  largest force {force:.4f} eV/Å"
                )
    finally:
        log.close()
        trajectory.close()
    path = folder / (RELAXED if converged else UNCONVERGED)
    write_atomically(path, frame_text(atoms, step=optimizer.nsteps).encode())
    result = RelaxResult(
        atoms=atoms,
        converged=converged,
        steps=optimizer.nsteps,
        energy=float(atoms.get_potential_energy()),
        max_force=_max_force(atoms),
        path=path,
    )
    say(console, _summary(result, settings, time.perf_counter() - start))
    return result


def _row(atoms: Atoms, step: int) -> str:
    cells = [f"{step}", f"{atoms.get_potential_energy():.9f}", f"{_max_force(atoms):.6f}"]
    cells.append(f"{_pressure(atoms):.6f}" if "stress" in atoms.calc.results else "")
    cells.append(f"{atoms.get_volume():.6f}" if atoms.pbc.all() else "")
    return ",".join(cells) + "\n"


def _pressure(atoms: Atoms) -> float:
    """GPa."""
    return float(-np.trace(atoms.get_stress(voigt=False)) / 3.0 / units.GPa)


def _max_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _require_finite(atoms: Atoms, step: int) -> None:
    if not np.isfinite(atoms.get_potential_energy()) or not np.isfinite(atoms.get_forces()).all():
        raise MlipError(
            f"step {step} of the relaxation has an energy or force that is not finite; the "
            "potential is not valid for this structure. The frames before are in the trajectory."
        )


def _summary(result: RelaxResult, settings: RelaxSettings, seconds: float) -> str:
    if result.converged:
        verdict = f"converged in {result.steps} steps"
    else:
        verdict = f"NOT CONVERGED after {result.steps} steps (fmax={settings.fmax:g} eV/Å wanted)"
    pressure = f", pressure {_pressure(result.atoms):.3f} GPa" if settings.relax_cell else ""
    return (
        f"{verdict}: energy {result.energy:.6f} eV, largest force {result.max_force:.4f} eV/Å"
        f"{pressure}, {seconds:.1f} s; structure in {result.path}"
    )
