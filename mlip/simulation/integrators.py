"""ASE's integrators behind one construction call, with a state that can be stored."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import units
from ase.constraints import FixAtoms
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.verlet import VelocityVerlet

from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.simulation.md import MDSettings

Ensemble = Literal["nve", "langevin", "npt"]


class Integrator:
    """Velocity Verlet (nve), Langevin BAOAB (langevin), Langevin–Hoover with a volume (npt).

    BAOAB is Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013); the barostat, which
    changes the volume and keeps the shape of the cell, Quigley and Probert, J. Chem. Phys. 120,
    11432 (2004). Both are ASE's.

    Args:
        atoms: moved in place; their calculator gives the forces.
        settings: of the run.

    Raises:
        MlipError: if the ensemble does not suit the periodicity or the constraints.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings) -> None:
        _check(atoms, settings.ensemble)
        timestep = settings.timestep * units.fs
        self._langevin: LangevinBAOAB | None = None
        if settings.ensemble == "nve":
            self.step = VelocityVerlet(atoms, timestep).step
            return
        barostat = {}
        if settings.ensemble == "npt":
            barostat = {
                "externalstress": -settings.pressure * units.GPa,
                "P_tau": settings.barostat_time * 1000.0 * units.fs,
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE reports its choice of the barostat's mass
            self._langevin = LangevinBAOAB(
                atoms,
                timestep,
                temperature_K=settings.temperature,
                T_tau=1000.0 * units.fs / settings.friction,
                hydrostatic=True,
                # not the stream that the initial velocities come from
                rng=np.random.default_rng([settings.seed, 1]),
                **barostat,
            )
        self.step = self._langevin.step

    @property
    def state(self) -> dict[str, Any]:
        """What the next step depends on besides positions, momenta and cell; JSON values."""
        if self._langevin is None:
            return {}
        state: dict[str, Any] = {"rng": self._langevin.rng.bit_generator.state}
        if self._langevin.externalstress is not None:
            state["cell_momentum"] = float(self._langevin.p_eps)
            state["cell_force"] = float(self._langevin.force_eps)
        return state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if self._langevin is None:
            return
        self._langevin.rng.bit_generator.state = state["rng"]
        if self._langevin.externalstress is not None:
            self._langevin.p_eps = state["cell_momentum"]
            self._langevin.force_eps = state["cell_force"]


def _check(atoms: Atoms, ensemble: Ensemble) -> None:
    if ensemble == "npt" and not atoms.pbc.all():
        raise MlipError(
            f"ensemble=npt needs periodicity in three directions, but pbc is {atoms.pbc.tolist()}; "
            "use nve or langevin, or give a periodic cell."
        )
    if ensemble == "npt" and atoms.constraints:
        raise MlipError("ensemble=npt moves every atom with the cell; remove the constraints.")
    if ensemble == "langevin":
        other = [c for c in atoms.constraints if not isinstance(c, FixAtoms)]
        if other:
            raise MlipError(
                f"ensemble=langevin supports fixed atoms, not {type(other[0]).__name__}; "
                "remove that constraint or use nve."
            )
