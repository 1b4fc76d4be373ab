"""Molecular dynamics in a folder of its own, continued exactly when run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import jax
import numpy as np
from pydantic import Field, model_validator
from rich.console import Console

from mlip.errors import MlipError
from mlip.progress import StepProgress, say
from mlip.reporting.figures import plot_energy_drift
from mlip.settings import Settings
from mlip.simulation.calculator import CompilationRecord, MLIPCalculator
from mlip.simulation.guard import Guard
from mlip.simulation.integrators import Ensemble, Integrator
from mlip.simulation.md_log import HEADER, Drift, fit_drift, log_row, read_log
from mlip.simulation.records import AppendFile, frame_text, prepare_folder
from mlip.simulation.restart import RestartState, find_restart, fingerprint, save_restart
from mlip.simulation.velocities import degrees_of_freedom, draw_momenta, temperature_of

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.potential import Potential

LOG, TRAJECTORY, RESTART = "md.csv", "trajectory.xyz", "restart.npz"
LAST_GOOD, FIGURE = "last_good.xyz", "energy_drift.png"
# Settings that may differ between a run and its continuation: they do not steer the atoms.
FREE_SETTINGS = {"steps", "time", "max_temperature", "min_distance"}


class MDSettings(Settings):
    """Options of a molecular-dynamics run."""

    ensemble: Ensemble = Field(
        "nve", description="nve: constant energy; langevin: thermostat; npt: and barostat"
    )
    temperature: float = Field(300.0, gt=0, description="of the thermostat and of the start, K")
    pressure: float = Field(0.0, description="of the barostat (npt), GPa")
    timestep: float = Field(0.5, gt=0, description="fs")
    time: float | None = Field(
        None, gt=0, description="length of the run, ps; 1 ps if neither this nor steps is given"
    )
    steps: int | None = Field(None, ge=0, description="length of the run, steps")
    friction: float = Field(10.0, gt=0, description="of the thermostat, 1/ps")
    barostat_time: float = Field(1.0, gt=0, description="time scale of the volume (npt), ps")
    seed: int = Field(0, ge=0, description="of the initial velocities and the thermostat")
    init_velocities: bool = Field(
        True, description="draw velocities at the temperature; false keeps the structure's own"
    )
    log_interval: int = Field(10, ge=1, description="steps between rows of md.csv")
    trajectory_interval: int = Field(
        20, ge=1, description="steps between stored frames; the run can be continued from each"
    )
    max_temperature: float = Field(5000.0, gt=0, description="stop above this temperature, K")
    min_distance: float = Field(
        0.4, ge=0, description="stop when two atoms are closer than this, Å"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.time is not None and self.steps is not None:
            raise ValueError("give the length of the run as time (ps) or as steps, not both")
        if self.max_temperature <= self.temperature:
            raise ValueError("max_temperature must be above temperature")
        if self.ensemble != "npt":
            self.require_default(["pressure", "barostat_time"], "only for ensemble=npt")
        if self.ensemble == "nve":
            self.require_default(["friction"], "only for ensemble=langevin and npt")
        return self

    @property
    def num_steps(self) -> int:
        """Length of the run in steps."""
        if self.steps is not None:
            return self.steps
        return round((self.time or 1.0) * 1000.0 / self.timestep)


class MDResult(NamedTuple):
    """What a run came to.

    Attributes:
        atoms: the last frame, with velocities.
        steps: steps done, earlier parts of a continued run included.
        time: ps.
        temperature: mean over the logged steps, K.
        drift: of the total energy; `None` unless the ensemble is nve.
        seconds_per_step: of this part, compilation and file output included.
        compilations: of this part.
    """

    atoms: Atoms
    steps: int
    time: float
    temperature: float
    drift: Drift | None
    seconds_per_step: float
    compilations: tuple[CompilationRecord, ...]


def run_md(
    atoms: Atoms,
    potential: Potential,
    settings: MDSettings,
    run_dir: Path,
    *,
    console: Console | None = None,
) -> MDResult:
    """Run molecular dynamics, or continue the run that `run_dir` holds.

    Writes `md.csv` (energies, temperature, pressure), `trajectory.xyz` (extended XYZ),
    `restart.npz` (with every stored frame) and, for nve, `energy_drift.png`. A continued run goes
    through exactly the states of an uninterrupted one; what an interrupted process wrote after
    its last restart state is cut off and computed again.

    Args:
        atoms: start; not changed.
        potential: gives the forces.
        settings: of the run. To prolong a finished run, ask for more steps.
        run_dir: made if missing.
        console: for progress; standard output by default.

    Raises:
        MlipError: if the folder cannot be written or belongs to another run, the restart file is
            damaged, the ensemble does not suit the structure or the potential, or the simulation
            explodes.
    """
    run_dir = Path(run_dir)
    console = console or Console()
    _require_gradient(potential, settings.ensemble)
    prepare_folder(run_dir)
    try:
        with _Run(atoms, potential, settings, run_dir, console) as run:
            run.advance()
            return run.result()
    except OSError as error:
        raise MlipError(
            f"writing to {run_dir} failed ({error.strerror or error}); make room or choose another "
            "folder. The same command then continues from the last stored state."
        ) from error


def _require_gradient(potential: Potential, ensemble: Ensemble) -> None:
    """Refuse what direct forces cannot do."""
    missing = {"nve": "no total energy is conserved", "npt": "there is no stress"}
    if potential.direct_forces and ensemble in missing:
        raise MlipError(
            f"ensemble={ensemble}: the forces of this potential are not the gradient of its "
            f"energy, so that {missing[ensemble]}; use ensemble=langevin, or train with "
            "model.forces=gradient."
        )


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        atoms: Atoms,
        potential: Potential,
        settings: MDSettings,
        folder: Path,
        console: Console,
    ) -> None:
        self.settings, self.folder, self.console = settings, folder, console
        self.origin = fingerprint(atoms, potential)
        self.atoms = atoms.copy()
        self.fixed = settings.model_dump(mode="json", exclude=FREE_SETTINGS)
        stored = find_restart(folder / RESTART, self.fixed, self.origin, settings.num_steps)
        self.is_new = stored is None
        self.step = self.first = stored.step if stored else 0
        self.calculator = MLIPCalculator(potential, shapes=stored.shapes if stored else ())
        self.atoms.calc = self.calculator
        if stored:
            self.atoms.set_cell(stored.cell)
            self.atoms.arrays["positions"] = stored.positions.copy()
            self.atoms.arrays["momenta"] = stored.momenta.copy()
        elif settings.init_velocities:
            draw_momenta(self.atoms, settings.temperature, np.random.default_rng(settings.seed))
        at_rest = settings.init_velocities and settings.ensemble == "nve"
        self.degrees = degrees_of_freedom(atoms, at_rest=at_rest)
        self.guard = Guard(settings.max_temperature, settings.min_distance, folder / LAST_GOOD)
        self.integrator = Integrator(self.atoms, settings)
        if stored:
            self.integrator.state = stored.integrator
        sizes = stored.file_sizes if stored else {}
        self.files = {
            name: AppendFile(folder / name, sizes.get(name, 0)) for name in (LOG, TRAJECTORY)
        }
        self.started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files.values():
            file.close()

    def advance(self) -> None:
        """Do the steps that are left."""
        settings, total = self.settings, self.settings.num_steps
        if self.step == total and not self.is_new:
            done = f"{self.folder} holds the finished run; nothing was left to do"
            say(self.console, f"{done} (a longer md.time goes on with it)")
            return
        self._announce()
        self._check()
        if self.is_new:
            self.files[LOG].write(HEADER)
            self._record()
        with StepProgress("md", total, self.step, self.console) as progress:
            while self.step < total:
                self._one_step()
                self._check()
                self._record()
                if self.step % settings.log_interval == 0 or self.step == total:
                    progress.update(self.step, self._status())

    def result(self) -> MDResult:
        """Summarise the whole run from its log, print it and draw the energy."""
        log = read_log(self.folder / LOG)
        seconds = (time.perf_counter() - self.started) / max(self.step - self.first, 1)
        drift = None
        if self.settings.ensemble == "nve":
            per_atom = 1000.0 * log["total_ev"] / len(self.atoms)
            drift = fit_drift(log["time_ps"], per_atom)
            if len(per_atom) > 1:
                plot_energy_drift(self.folder / FIGURE, log["time_ps"], per_atom, drift.slope)
        result = MDResult(
            atoms=self.atoms,
            steps=self.step,
            time=self._time(),
            temperature=float(log["temperature_k"].mean()),
            drift=drift,
            seconds_per_step=seconds,
            compilations=tuple(self.calculator.compilations),
        )
        self._conclude(result)
        return result

    def _one_step(self) -> None:
        try:
            self.integrator.step()
        except MlipError as error:  # e.g. atoms on one spot, positions not finite
            self.guard.stop(self.atoms, self.step + 1, str(error).rstrip("."))
        self.step += 1

    def _check(self) -> None:
        self.atoms.get_forces()
        self.temperature = temperature_of(self.atoms, self.degrees)
        self.guard.check(self.atoms, self.step, self.temperature)

    def _record(self) -> None:
        settings = self.settings
        last = self.step == settings.num_steps
        if last or self.step % settings.log_interval == 0:
            row = log_row(self.atoms, self.step, self._time(), self.temperature)
            self.files[LOG].write(row)
        if last or self.step % settings.trajectory_interval == 0:
            info = {"step": self.step, "time_ps": self._time()}
            self.files[TRAJECTORY].write(frame_text(self.atoms, **info))
            self._store()

    def _store(self) -> None:
        state = RestartState(
            step=self.step,
            settings=self.fixed,
            origin=self.origin,
            positions=self.atoms.get_positions(),
            momenta=self.atoms.get_momenta(),
            cell=self.atoms.cell.array,
            integrator=self.integrator.state,
            shapes=self.calculator.shapes,
            file_sizes={name: file.size for name, file in self.files.items()},
        )
        save_restart(self.folder / RESTART, state)

    def _time(self) -> float:
        return self.step * self.settings.timestep / 1000.0

    def _status(self) -> str:
        energy = self.atoms.get_total_energy()
        return f"{self._time():.3f} ps  {self.temperature:.0f} K  E {energy:.4f} eV"

    def _announce(self) -> None:
        settings, potential = self.settings, self.calculator.potential
        text = (
            f"{settings.ensemble}, {len(self.atoms)} atoms, {settings.num_steps} steps of "
            f"{settings.timestep:g} fs, {potential.precision} on {jax.default_backend()}"
        )
        say(self.console, text + ("" if self.is_new else f", continuing from step {self.step}"))
        if self.is_new and not settings.init_velocities:
            temperature = temperature_of(self.atoms, self.degrees)
            start = f"with the structure's own velocities, at {temperature:.0f} K"
            if temperature == 0.0:
                start = "without velocities, as the structure has none"
            say(self.console, f"init_velocities=false: starting {start}")

    def _conclude(self, result: MDResult) -> None:
        done = self.step - self.first
        compiled = sum(record.seconds for record in result.compilations)
        text = f"{result.time:g} ps done, mean temperature {result.temperature:.0f} K"
        if done:
            text += (
                f"; {done} steps at {1000.0 * result.seconds_per_step:.1f} ms, "
                f"{len(result.compilations)} compilations ({compiled:.1f} s)"
            )
        say(self.console, text)
        if result.drift is not None:
            say(
                self.console,
                f"energy drift {result.drift.slope:+.4f} meV/atom/ps (linear fit), fluctuation "
                f"{result.drift.fluctuation:.4f} meV/atom",
            )
