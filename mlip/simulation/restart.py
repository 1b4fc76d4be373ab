"""The state from which a molecular-dynamics run continues exactly."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from mlip.data.collate import BatchShape
from mlip.errors import MlipError
from mlip.simulation.records import write_atomically

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.potential import Potential

FORMAT = 1


@dataclass(frozen=True)
class RestartState:
    """Everything that decides how a run goes on.

    Args:
        step: steps done.
        settings: the settings of the run, as plain values.
        origin: fingerprint of the starting structure and the potential.
        positions: Å, shape (n, 3).
        momenta: ASE units, shape (n, 3).
        cell: Å, shape (3, 3).
        integrator: state of the thermostat and barostat, JSON values.
        shapes: padded shapes in use: another shape may round differently.
        file_sizes: bytes written to each output file by name.
    """

    step: int
    settings: dict[str, Any]
    origin: str
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    integrator: dict[str, Any]
    shapes: tuple[BatchShape, ...]
    file_sizes: dict[str, int] = field(default_factory=dict)


_ARRAYS = ("positions", "momenta", "cell")
_VALUES = ("step", "settings", "origin", "integrator", "shapes", "file_sizes")


def save_restart(path: Path, state: RestartState) -> None:
    """Write the state; the previous one stays intact until this one is complete."""
    header = {name: getattr(state, name) for name in _VALUES} | {"format": FORMAT}
    arrays = {name: getattr(state, name) for name in _ARRAYS}
    content = io.BytesIO()
    np.savez(content, header=np.array(json.dumps(header)), **arrays)
    write_atomically(path, content.getvalue())


def load_restart(path: Path) -> RestartState:
    """Read a state.

    Raises:
        MlipError: if the file is damaged or of an unknown format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in _ARRAYS}
        found = header.pop("format")
        if found == FORMAT:
            header["shapes"] = tuple(BatchShape(*shape) for shape in header["shapes"])
            return RestartState(**header, **arrays)
    except Exception as error:  # a damaged zip fails in many ways
        raise MlipError(
            f"{path} is damaged ({type(error).__name__}), so this run cannot be continued; "
            "move the folder away or choose another one to start anew."
        ) from error
    raise MlipError(f"{path} has format {found}, this version reads {FORMAT}.")


def find_restart(
    path: Path, settings: dict[str, Any], origin: str, steps: int
) -> RestartState | None:
    """The state to continue from, if there is one; it must be of the run that is asked for.

    Args:
        path: restart file, which may be absent.
        settings: that the run must have had.
        origin: `fingerprint` that the run must have had.
        steps: length asked for.

    Raises:
        MlipError: if the file is damaged, of another run or beyond `steps`.
    """
    if not path.exists():
        return None
    state = load_restart(path)
    changed = [
        f"{name}={settings.get(name)} (was {state.settings.get(name)})"
        for name in sorted(settings.keys() | state.settings.keys())
        if settings.get(name) != state.settings.get(name)
    ]
    if changed:
        raise MlipError(
            f"{path.parent} holds a run with other settings: {', '.join(changed)}; restore them "
            "to continue it, or choose another folder, on the command line by run.name=…"
        )
    if state.origin != origin:
        raise MlipError(
            f"{path.parent} holds a run of another starting structure or potential; choose "
            "another folder, on the command line by run.name=…"
        )
    if state.step > steps:
        raise MlipError(
            f"{path.parent} holds a run of {state.step} steps, more than the {steps} asked for; "
            "choose another folder, on the command line by run.name=…"
        )
    return state


def fingerprint(atoms: Atoms, potential: Potential) -> str:
    """A digest of a starting structure and of the potential that moves it."""
    digest = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.get_momenta(), atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(atoms.get_masses().tobytes())
    digest.update(f"{potential.config!r} {potential.e0}".encode())
    for leaf in jax.tree.leaves(nnx.state(potential.model)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
