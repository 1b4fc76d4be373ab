"""Stops a simulation as soon as it has left physics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms


class Guard:
    """Looks at every step and remembers the last one that was sound.

    Args:
        max_temperature: K.
        min_distance: Å.
        path: file that the last sound frame is written to when a run is stopped.
    """

    def __init__(self, max_temperature: float, min_distance: float, path: Path) -> None:
        self.max_temperature = max_temperature
        self.min_distance = min_distance
        self.path = path
        self._last: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def check(self, atoms: Atoms, step: int, temperature: float) -> None:
        """Remember this step, or stop.

        Args:
            atoms: with an `MLIPCalculator` that holds results for them.
            step: number of the step, for the message.
            temperature: K.

        Raises:
            MlipError: if a value is not finite or a limit is passed.
        """
        fault = self._fault(atoms, temperature)
        if fault:
            self.stop(atoms, step, fault)
        self._last = (step, atoms.get_positions(), atoms.get_momenta(), atoms.cell.array.copy())

    def stop(self, atoms: Atoms, step: int, fault: str) -> None:
        """Save the last sound frame and end the run.

        Raises:
            MlipError: always, with the reason.
        """
        if self._last is None:
            raise MlipError(f"the starting structure is not fit for a simulation: {fault}.")
        good, positions, momenta, cell = self._last
        frame = atoms.copy()
        frame.calc = None
        frame.set_constraint()
        frame.set_cell(cell)
        frame.set_positions(positions)
        frame.set_momenta(momenta)
        frame.info["step"] = good
        from ase.io import write

        write(self.path, frame, format="extxyz")
        raise MlipError(
            f"the simulation was stopped at step {step}: {fault}. The last sound frame, step "
            f"{good}, is in {self.path}. Try a shorter timestep or a lower temperature; if that "
            "does not help, the potential is not valid there and needs training data like it."
        )

    def _fault(self, atoms: Atoms, temperature: float) -> str:
        results, shortest = atoms.calc.results, atoms.calc.shortest
        if not np.isfinite(results["energy"]) or not np.isfinite(results["forces"]).all():
            return "the energy or a force is not a finite number"
        if not temperature <= self.max_temperature:
            return (
                f"the temperature is {temperature:.0f} K, above max_temperature="
                f"{self.max_temperature:g} K"
            )
        if shortest < self.min_distance:
            return (
                f"two atoms are {shortest:.2f} Å apart, closer than min_distance="
                f"{self.min_distance:g} Å"
            )
        return ""
