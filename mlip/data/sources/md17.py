"""MD17, rMD17 and MD22: one molecule's frames as arrays in a `.npz`.

rMD17 names its arrays `nuclear_charges`, `coords`, `energies` and `forces`, in kcal/mol and Å;
the files of sGDML name theirs `z`, `R`, `E` and `F`, with the units in `e_unit` and `r_unit`.
"""

from __future__ import annotations

import zipfile
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.source import (
    BadRecordError,
    EnergyReference,
    Source,
    decoding,
    require_file,
)
from mlip.data.sources.units import unit
from mlip.data.structure import Structure
from mlip.errors import MlipError

NAMES = (("nuclear_charges", "coords", "energies", "forces"), ("z", "R", "E", "F"))


class _Arrays(NamedTuple):
    """As in the file: of one molecule, n atoms, m frames, with factors to eV and Å."""

    numbers: np.ndarray  # (n,)
    positions: np.ndarray  # (m, n, 3)
    energies: np.ndarray  # (m,)
    forces: np.ndarray  # (m, n, 3)
    energy_unit: float
    length_unit: float


class Md17Source(Source):
    """The frames of a file, which is read whole.

    Args:
        path: the `.npz`.
        keys: a label whose key is null is not read; their names mean nothing here.
        energy_reference: what the energies count from; None leaves it unstated.

    Raises:
        MlipError: if the file cannot be read, lacks an array, or they do not belong together.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: LabelKeys | None = None,
        energy_reference: EnergyReference | None = None,
    ) -> None:
        self.path = path
        self._keys = keys or LabelKeys()
        self._reference: EnergyReference = energy_reference or "unstated"
        if not len(self):
            raise MlipError(f"{path} holds no frame; download or make it again.")

    @cached_property
    def _arrays(self) -> _Arrays:
        return _read(self.path)

    @property
    def energy_reference(self) -> EnergyReference:
        return self._reference

    @property
    def elements(self) -> frozenset[int] | None:
        return frozenset(self._arrays.numbers.tolist())

    def __len__(self) -> int:
        return len(self._arrays.energies)

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"

    def num_atoms(self, index: int) -> int:
        return len(self._arrays.numbers)

    def atomic_numbers(self, index: int) -> np.ndarray:
        return self._arrays.numbers

    def sizes(self) -> np.ndarray:
        return np.full(len(self), self.num_atoms(0), np.int32)

    def __getitem__(self, index: int) -> Structure:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        name, arrays = self.identifier(index), self._arrays
        energy, forces = arrays.energies[index], arrays.forces[index]
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise BadRecordError(name, "a label is not finite; remove the frame.")
        force_unit = arrays.energy_unit / arrays.length_unit
        with decoding(name):
            return Structure(
                numbers=arrays.numbers,
                positions=arrays.positions[index] * arrays.length_unit,
                energy=None if self._keys.energy is None else float(energy) * arrays.energy_unit,
                forces=None if self._keys.forces is None else forces * force_unit,
                identifier=name,
            )


def _read(path: Path) -> _Arrays:
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for names in NAMES for name in names if name in file}
            # Written as bytes or text, by themselves in an array.
            units = {name: file[name].astype(str).item() for name in ("e_unit", "r_unit")
                     if name in file}  # fmt: skip
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MlipError(
            f"{path} cannot be read as arrays ({error}); copy or download it again."
        ) from None
    names = next((names for names in NAMES if set(names) <= content.keys()), None)
    if names is None:
        raise MlipError(
            f"{path} lacks the arrays of MD17: expected {' '.join(NAMES[0])} or "
            f"{' '.join(NAMES[1])}, found {' '.join(content) or 'others'}."
        )
    numbers, positions, energies, forces = (content[name] for name in names)
    frames, atoms = energies.size, numbers.size
    if positions.shape != (frames, atoms, 3) or forces.shape != positions.shape:
        raise MlipError(
            f"{path}: {atoms} atoms and {frames} energies, but positions of shape "
            f"{positions.shape} and forces of shape {forces.shape}; download it again."
        )
    return _Arrays(
        numbers.ravel().astype(np.int32),
        positions.astype(np.float64),
        energies.ravel().astype(np.float64),
        forces.astype(np.float64),
        unit(units.get("e_unit", "kcal/mol"), f"{path}: energies"),
        unit(units.get("r_unit", "Ang"), f"{path}: lengths"),
    )
