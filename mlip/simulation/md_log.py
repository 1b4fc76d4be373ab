"""The table of a molecular-dynamics run, and the energy drift read from it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import units

if TYPE_CHECKING:
    from ase import Atoms

COLUMNS = (
    "step",
    "time_ps",
    "potential_ev",
    "kinetic_ev",
    "total_ev",
    "temperature_k",
    "pressure_gpa",
    "volume_a3",
)
HEADER = ",".join(COLUMNS) + "\n"


def log_row(atoms: Atoms, step: int, time_ps: float, temperature: float) -> str:
    """One line of the table; pressure and volume are empty unless periodic in three directions.

    The pressure includes the kinetic contribution; it is empty too where there is no stress.
    """
    potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
    cells = [f"{step}", f"{time_ps:.6f}", f"{potential:.9f}", f"{kinetic:.9f}"]
    cells += [f"{potential + kinetic:.9f}", f"{temperature:.3f}"]
    pressure = volume = ""
    if atoms.pbc.all():
        volume = f"{atoms.get_volume():.6f}"
    if "stress" in atoms.calc.results:
        stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
        pressure = f"{-np.trace(stress) / 3.0 / units.GPa:.6f}"
    cells += [pressure, volume]
    return ",".join(cells) + "\n"


def read_log(path: Path) -> dict[str, np.ndarray]:
    """The table by column; empty cells become NaN."""
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return {
        name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
        for name in COLUMNS
    }


class Drift(NamedTuple):
    """How well the total energy was conserved.

    Attributes:
        slope: of the least-squares line through the total energy, meV/atom/ps.
        fluctuation: standard deviation about that line, meV/atom.
    """

    slope: float
    fluctuation: float


def fit_drift(time_ps: np.ndarray, total_mev_per_atom: np.ndarray) -> Drift:
    """Linear fit of the total energy; zero with fewer than three points.

    Args:
        time_ps: shape (n,).
        total_mev_per_atom: shape (n,).
    """
    if len(time_ps) < 3:
        return Drift(0.0, 0.0)
    centred = total_mev_per_atom - total_mev_per_atom.mean()
    slope, intercept = np.polyfit(time_ps, centred, 1)
    residual = centred - slope * time_ps - intercept
    return Drift(float(slope), float(residual.std()))
