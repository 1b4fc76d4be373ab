"""Errors of a potential on named subsets of labelled structures: the content of evaluation.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.potential import Potential, Prediction
from mlip.training.metrics import unwritable

Errors = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Errors by subset, and the values they were made of.

    Attributes:
        summary: by subset: `num_structures`, `num_atoms`; `energy_mae_mev_per_atom`,
            `energy_rmse_mev_per_atom` and `energy_rmse_mev` (of the total energy);
            `forces_mae_mev_per_a`, `forces_rmse_mev_per_a` per component;
            `stress_mae_mev_per_a3`, `stress_rmse_mev_per_a3` per component; and
            `forces_by_element` with `num_atoms`, `mae_mev_per_a`, `rmse_mev_per_a` by chemical
            symbol. Errors without any label are left out.
        arrays: float64, for each subset of S structures and A atoms, by `SUBSET/NAME`:
            `num_atoms` (S,), `numbers` (A,), `e0` (S,) (ΣE0 of the structure, eV), `energy` and
            `energy_reference` (S,) (total, eV), `forces` and `forces_reference` (A, 3) (eV/Å);
            `stress` and `stress_reference` (S, 3, 3) (eV/Å³) where any is labelled. NaN marks a
            missing label, and the predicted stress of a structure without a cell.
    """

    summary: dict[str, Errors]
    arrays: dict[str, np.ndarray]

    def write(self, folder: Path | str) -> None:
        """Write `evaluation.json` and `predictions.npz` into a folder.

        Raises:
            MlipError: when they cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "evaluation.json").write_text(json.dumps(self.summary, indent=2) + "\n")
            arrays: dict[str, Any] = self.arrays
            np.savez_compressed(folder / "predictions.npz", **arrays)
        except OSError as error:
            raise unwritable(folder, error) from error


def evaluate_subsets(
    potential: Potential,
    subsets: Mapping[str, Sequence[Structure]],
    batch_size: int = 16,
) -> Evaluation:
    """Predict every structure and compare with its labels, in float64.

    Args:
        potential: what to evaluate.
        subsets: labelled structures by the name of their subset.
        batch_size: structures evaluated at once.

    Raises:
        MlipError: for an empty subset, an unknown element, or a prediction that is not finite.
    """
    summary: dict[str, Errors] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, structures in subsets.items():
        if not structures:
            raise MlipError(f"the subset {name!r} has no structures; correct dataset.tests.{name}.")
        predictions = potential.predict(structures, batch_size)
        for structure, prediction in zip(structures, predictions, strict=True):
            if not np.isfinite(prediction.energy) or not np.all(np.isfinite(prediction.forces)):
                raise MlipError(
                    f"{structure.identifier}: the prediction is not finite; look at this frame "
                    "for atoms that overlap."
                )
        values = _collect(structures, predictions, potential.e0)
        summary[name] = _errors(values)
        arrays |= {f"{name}/{key}": value for key, value in values.items()}
    return Evaluation(summary, arrays)


def _collect(
    structures: Sequence[Structure], predictions: Sequence[Prediction], e0: Mapping[int, float]
) -> dict[str, np.ndarray]:
    """Predictions and labels side by side; NaN where one is missing."""
    missing = float("nan")
    values = {
        "num_atoms": np.array([len(s) for s in structures]),
        "numbers": np.concatenate([s.numbers for s in structures]),
        "e0": np.array([sum(e0[int(z)] for z in s.numbers) for s in structures]),
        "energy": np.array([p.energy for p in predictions]),
        "energy_reference": np.array(
            [missing if s.energy is None else s.energy for s in structures]
        ),
        "forces": np.concatenate([p.forces for p in predictions]),
        "forces_reference": np.concatenate(
            [np.full((len(s), 3), missing) if s.forces is None else s.forces for s in structures]
        ),
    }
    if any(s.stress is not None for s in structures):
        unknown = np.full((3, 3), missing)
        values["stress"] = np.stack(
            [unknown if p.stress is None else p.stress for p in predictions]
        )
        values["stress_reference"] = np.stack(
            [unknown if s.stress is None else s.stress for s in structures]
        )
    return values


def _errors(values: Mapping[str, np.ndarray]) -> Errors:
    numbers, num_atoms = values["numbers"], values["num_atoms"]
    errors: Errors = {"num_structures": len(num_atoms), "num_atoms": len(numbers)}
    energy = values["energy"] - values["energy_reference"]
    forces = values["forces"] - values["forces_reference"]
    if np.any(np.isfinite(energy)):
        mae, rmse = _mae_rmse(energy / num_atoms)
        errors |= {"energy_mae_mev_per_atom": mae, "energy_rmse_mev_per_atom": rmse}
        errors["energy_rmse_mev"] = _mae_rmse(energy)[1]
    if np.any(np.isfinite(forces)):
        mae, rmse = _mae_rmse(forces)
        errors |= {"forces_mae_mev_per_a": mae, "forces_rmse_mev_per_a": rmse}
    if "stress" in values:
        stress = values["stress"] - values["stress_reference"]
        if np.any(np.isfinite(stress)):
            mae, rmse = _mae_rmse(stress)
            errors |= {"stress_mae_mev_per_a3": mae, "stress_rmse_mev_per_a3": rmse}
    has_forces = np.all(np.isfinite(forces), axis=1)
    by_element = {}
    for z in np.unique(numbers[has_forces]):
        chosen = has_forces & (numbers == z)
        mae, rmse = _mae_rmse(forces[chosen])
        by_element[chemical_symbols[z]] = {
            "num_atoms": int(np.sum(chosen)),
            "mae_mev_per_a": mae,
            "rmse_mev_per_a": rmse,
        }
    return {**errors, "forces_by_element": by_element} if by_element else errors


def _mae_rmse(difference: np.ndarray) -> tuple[float, float]:
    """Mean absolute and root-mean-square difference, in thousandths of the unit, NaN left out."""
    mae = float(np.nanmean(np.abs(difference)))
    rmse = float(np.sqrt(np.nanmean(difference**2)))
    return 1000.0 * mae, 1000.0 * rmse
