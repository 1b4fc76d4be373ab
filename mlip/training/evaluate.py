"""Errors of a potential on named subsets of labelled structures: the content of evaluation.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlip.data.collate import species_index
from mlip.data.frames import Frames
from mlip.data.neighbors import NEAR, neighbor_list
from mlip.data.sources.source import quoted
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.potential import Potential, Prediction
from mlip.training.metrics import unwritable

CHUNK = 1024  # structures of a streamed subset in memory at once
KEPT = 4096  # structures of a streamed subset whose predictions are kept
NAMED_FAULTS = 3  # records left out of a subset that say why

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
            symbol. Errors without any label are left out. `skipped_records` counts records of a
            streamed subset that cannot be used, if there are any, and `faults` says why, for
            some of them.
        arrays: float64, for each subset of S structures and A atoms, by `SUBSET/NAME`:
            `num_atoms` (S,), `numbers` (A,), `e0` (S,) (ΣE0 of the structure, eV), `energy` and
            `energy_reference` (S,) (total, eV), `forces` and `forces_reference` (A, 3) (eV/Å);
            `stress` and `stress_reference` (S, 3, 3) (eV/Å³) where any is labelled. NaN marks a
            missing label, the predicted stress of a structure without a cell, and the predicted
            forces of data in which neither forces nor a stress is labelled.
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
    *,
    mask_fixed: bool = False,
) -> Evaluation:
    """Predict every structure and compare with its labels, in float64.

    Of streamed subsets the arrays hold the first `KEPT` structures of a random order.

    Args:
        potential: what to evaluate.
        subsets: labelled structures by the name of their subset.
        batch_size: structures evaluated at once.
        mask_fixed: leave out the forces of atoms that a constraint holds in place.

    Raises:
        MlipError: for a subset without a usable structure, an unknown element, or a prediction
            that is not finite.
    """
    summary: dict[str, Errors] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, structures in subsets.items():
        if not structures:
            raise MlipError(f"the subset {name!r} has no structures; correct dataset.tests.{name}.")
        errors, kept, skipped = _ErrorSums(), [], 0
        left_out: list[str] = []
        for chunk, faults in _chunks(structures, potential):
            skipped += len(faults)
            left_out = [*left_out, *faults][:NAMED_FAULTS]
            if not chunk:
                continue
            values = _collect(chunk, _predict(potential, chunk, batch_size), potential.e0)
            if mask_fixed:
                values["forces_reference"][_fixed(chunk)] = np.nan
            if errors.num_structures < KEPT:
                kept.append(values)
            errors.add(values)
        if not kept:
            raise MlipError(
                f"none of the {skipped} records of the subset {name!r} can be used, beginning "
                f"with {quoted(left_out)}."
            )
        summary[name] = errors.summary()
        if skipped:
            summary[name] |= {"skipped_records": skipped, "faults": left_out}
        arrays |= {f"{name}/{key}": value for key, value in _joined(kept).items()}
    return Evaluation(summary, arrays)


def left_out_notes(summary: Mapping[str, Errors]) -> list[str]:
    """One sentence for each subset of which records were left out.

    Args:
        summary: as in `Evaluation`.
    """
    return [
        f"{name}: left out {errors['skipped_records']} records that cannot be used, beginning "
        f"with {quoted(errors['faults'])}"
        for name, errors in summary.items()
        if "skipped_records" in errors
    ]


def _chunks(
    structures: Sequence[Structure], potential: Potential
) -> Iterator[tuple[Sequence[Structure], list[str]]]:
    """The structures in pieces that fit into memory, and the faults of those left out.

    Left out of a stream is what training leaves out: elements that the model does not know, and
    atoms on one spot.
    """

    def check(structure: Structure) -> None:
        species_index(structure, potential.elements)
        neighbor_list(structure, NEAR)

    if isinstance(structures, Frames):
        for read in structures.chunks(CHUNK):
            usable = structures.keep(read, check)
            yield usable.structures, usable.faults
    else:
        yield structures, []


def _predict(
    potential: Potential, structures: Sequence[Structure], batch_size: int
) -> list[Prediction]:
    # Without labels to compare them with, forces and stress are not worth a derivative.
    energy_only = all(s.forces is None and s.stress is None for s in structures)
    predictions = potential.predict(structures, batch_size, energy_only=energy_only)
    for structure, prediction in zip(structures, predictions, strict=True):
        forces = 0.0 if prediction.forces is None else prediction.forces
        if not np.isfinite(prediction.energy) or not np.all(np.isfinite(forces)):
            raise MlipError(
                f"{structure.identifier}: the prediction is not finite; look at this frame for "
                "atoms that overlap."
            )
    return predictions


def _fixed(structures: Sequence[Structure]) -> np.ndarray:
    """Which of all atoms are held in place by a constraint."""
    return np.concatenate(
        [np.zeros(len(s), bool) if s.fixed is None else s.fixed for s in structures]
    )


def _joined(pieces: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several pieces; those without any labelled stress get NaN."""
    keys = dict.fromkeys(key for piece in pieces for key in piece)
    unknown = {
        key: [np.full((len(piece["energy"]), 3, 3), np.nan) for piece in pieces] for key in keys
    }
    return {
        key: np.concatenate(
            [piece.get(key, missing) for piece, missing in zip(pieces, unknown[key], strict=True)]
        )
        for key in keys
    }


def _collect(
    structures: Sequence[Structure], predictions: Sequence[Prediction], e0: Mapping[int, float]
) -> dict[str, np.ndarray]:
    """Predictions and labels side by side; NaN where one is missing."""
    missing = float("nan")
    unknown = [np.full((len(s), 3), missing) for s in structures]  # forces
    values = {
        "num_atoms": np.array([len(s) for s in structures]),
        "numbers": np.concatenate([s.numbers for s in structures]),
        "e0": np.array([sum(e0[int(z)] for z in s.numbers) for s in structures]),
        "energy": np.array([p.energy for p in predictions]),
        "energy_reference": np.array(
            [missing if s.energy is None else s.energy for s in structures]
        ),
        "forces": np.concatenate(
            [u if p.forces is None else p.forces for p, u in zip(predictions, unknown, strict=True)]
        ),
        "forces_reference": np.concatenate(
            [u if s.forces is None else s.forces for s, u in zip(structures, unknown, strict=True)]
        ),
    }
    if any(s.stress is not None for s in structures):
        none = np.full((3, 3), missing)
        values["stress"] = np.stack([none if p.stress is None else p.stress for p in predictions])
        values["stress_reference"] = np.stack(
            [none if s.stress is None else s.stress for s in structures]
        )
    return values


class _ErrorSums:
    """Sums over labels from which the errors of a subset are made."""

    def __init__(self) -> None:
        self.num_structures = self._num_atoms = 0
        self._sums = {
            name: np.zeros(3) for name in ("energy_per_atom", "energy", "forces", "stress")
        }
        self._elements: dict[int, np.ndarray] = {}

    def add(self, values: Mapping[str, np.ndarray]) -> None:
        """Count some structures."""
        numbers, num_atoms = values["numbers"], values["num_atoms"]
        self.num_structures += len(num_atoms)
        self._num_atoms += len(numbers)
        energy = values["energy"] - values["energy_reference"]
        forces = values["forces"] - values["forces_reference"]
        self._sums["energy_per_atom"] += _sums(energy / num_atoms)
        self._sums["energy"] += _sums(energy)
        self._sums["forces"] += _sums(forces)
        if "stress" in values:
            self._sums["stress"] += _sums(values["stress"] - values["stress_reference"])
        has_forces = np.all(np.isfinite(forces), axis=1)
        for z in np.unique(numbers[has_forces]).tolist():
            found = _sums(forces[has_forces & (numbers == z)])
            self._elements[z] = self._elements.get(z, np.zeros(3)) + found

    def summary(self) -> Errors:
        """As in `Evaluation`."""
        errors: Errors = {"num_structures": self.num_structures, "num_atoms": self._num_atoms}
        for name, mae_key, rmse_key in (
            ("energy_per_atom", "energy_mae_mev_per_atom", "energy_rmse_mev_per_atom"),
            ("energy", None, "energy_rmse_mev"),
            ("forces", "forces_mae_mev_per_a", "forces_rmse_mev_per_a"),
            ("stress", "stress_mae_mev_per_a3", "stress_rmse_mev_per_a3"),
        ):
            if self._sums[name][0]:
                mae, rmse = _mae_rmse(self._sums[name])
                errors |= ({mae_key: mae} if mae_key else {}) | {rmse_key: rmse}
        by_element = {}
        for z, sums in sorted(self._elements.items()):
            mae, rmse = _mae_rmse(sums)
            by_element[chemical_symbols[z]] = {
                "num_atoms": int(sums[0]) // 3,
                "mae_mev_per_a": mae,
                "rmse_mev_per_a": rmse,
            }
        return {**errors, "forces_by_element": by_element} if by_element else errors


def _sums(difference: np.ndarray) -> np.ndarray:
    """Number, sum and sum of squares of the absolute differences, NaN left out."""
    size = np.abs(difference[np.isfinite(difference)])
    return np.array([size.size, size.sum(), np.sum(size**2)])


def _mae_rmse(sums: np.ndarray) -> tuple[float, float]:
    """Mean absolute and root-mean-square difference, in thousandths of the unit."""
    count, total, squares = sums
    return 1000.0 * float(total / count), 1000.0 * float(np.sqrt(squares / count))
