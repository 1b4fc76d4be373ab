"""Run folders with plausible made-up content, for the tests of the report."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

SUBSETS = {"test_300K": 0.020, "test_600K": 0.045, "test_1200K": 0.110}
DATA = {
    "structures": 450,
    "looked_at": 300,
    "atoms": [9, 27],
    "elements": ["H", "C", "N", "O"],
    "energy_mean_ev_per_atom": -5.4321,
    "energy_spread_ev_per_atom": 0.0123,
    "forces_rms_ev_per_a": 1.2345,
    "forces_max_ev_per_a": None,
}
STEPS = 90
ELEMENTS = {1: "H", 6: "C", 7: "N", 8: "O"}


def write_run_folder(path: Path, frames: int = 6, epochs: int = 12, stress: bool = False) -> Path:
    """A complete run folder; `frames` structures of 27 atoms in each of three subsets."""
    rng = np.random.default_rng(0)
    path.mkdir(parents=True, exist_ok=True)
    path.joinpath("config.yaml").write_text(
        "model:\n  name: mace\n  channels: 64\ntrainer:\n  batch_size: 5\n  note: <b>raw</b>\n"
    )
    _write_metrics(path / "metrics.jsonl", epochs, rng)
    arrays = {name: _predictions(scale, frames, stress, rng) for name, scale in SUBSETS.items()}
    np.savez(
        path / "predictions.npz",
        **{
            f"{name}/{key}": value for name, group in arrays.items() for key, value in group.items()
        },
    )
    evaluation = {name: evaluate(group) for name, group in arrays.items()}
    path.joinpath("evaluation.json").write_text(json.dumps(evaluation))
    metadata = {
        "format_version": 1,
        "elements": ["H", "C", "N", "O"],
        "cutoff": 5.0,
        "precision": "float32",
        "e0": {"H": -13.587, "C": -1029.489, "N": -1484.981, "O": -2041.982},
        "provenance": {
            "e0_origin": "isolated atoms of iso_atoms.xyz",
            "data": {"name": "demo", "fingerprint": "a1b2c3d4", "subsets": {"train": DATA}},
            "versions": {"jax-mlip": "0.1.0", "jax": "0.12.0", "python": "3.12.3"},
        },
    }
    with zipfile.ZipFile(path / "model.mlip", "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
    return path


def evaluate(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """Errors of one subset, straight from their definitions."""
    energy = 1e3 * (arrays["energy"] - arrays["energy_reference"])
    per_atom = energy / arrays["num_atoms"]
    forces = 1e3 * (arrays["forces"] - arrays["forces_reference"])
    errors: dict[str, object] = {
        "num_structures": len(energy),
        "num_atoms": len(forces),
        "energy_mae_mev_per_atom": float(np.mean(np.abs(per_atom))),
        "energy_rmse_mev_per_atom": float(np.sqrt(np.mean(per_atom**2))),
        "energy_rmse_mev": float(np.sqrt(np.mean(energy**2))),
        "forces_mae_mev_per_a": float(np.mean(np.abs(forces))),
        "forces_rmse_mev_per_a": float(np.sqrt(np.mean(forces**2))),
        "forces_by_element": {
            symbol: {
                "num_atoms": int(np.sum(arrays["numbers"] == z)),
                "mae_mev_per_a": float(np.mean(np.abs(forces[arrays["numbers"] == z]))),
                "rmse_mev_per_a": float(np.sqrt(np.mean(forces[arrays["numbers"] == z] ** 2))),
            }
            for z, symbol in ELEMENTS.items()
        },
    }
    if "stress" in arrays:
        stress = 1e3 * (arrays["stress"] - arrays["stress_reference"])
        errors["stress_mae_mev_per_a3"] = float(np.mean(np.abs(stress)))
        errors["stress_rmse_mev_per_a3"] = float(np.sqrt(np.mean(stress**2)))
    return errors


def _write_metrics(path: Path, epochs: int, rng: np.random.Generator) -> None:
    place = {"epoch": 0.0, "step": 0, "seconds": 0.1}
    rows: list[dict[str, object]] = [
        {
            "kind": "event",
            "event": "start",
            **place,
            "num_parameters": 269136,
            "precision": "float32",
            "device": "cpu",
            "batches": STEPS,
            "shapes": ["5 structures, 136 atoms, 405x6 edges"],
            "padding_share": 0.083,
        },
        {"kind": "event", "event": "data_warning", **place, "message": "2 frames are duplicates."},
        {
            "kind": "event",
            "event": "compile",
            **place,
            "function": "train_step",
            "seconds": 11.2,
            "shape": "5 structures, 136 atoms, 405x6 edges",
        },
    ]
    for step in range(10, STEPS * epochs + 1, 10):
        epoch = step / STEPS
        common = {"epoch": epoch, "step": step, "seconds": 11.0 + 14.0 * epoch, "stage": 0}
        common["lr"] = 0.01 * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) + 1e-5
        train: dict[str, object] = {"kind": "train", **common, **_errors(epoch, 1.0, rng)}
        train |= {"grad_norm": 3.0, "step_ms": 150 + rng.uniform(-10, 30)}
        train["data_wait_seconds"] = 0.05
        if step % STEPS == 0:
            train["epoch_seconds"] = 14 + rng.uniform(-1, 2)
        rows.append(train)
        if step % STEPS == 0:
            rows.append({"kind": "valid", **common, **_errors(epoch, 1.2, rng)})
    last = {key: rows[-1][key] for key in ("epoch", "step", "seconds")}
    rows.append({"kind": "event", "event": "stage", **last, "name": "second stage"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _errors(epoch: float, factor: float, rng: np.random.Generator) -> dict[str, float]:
    noise = factor * (1 / (epoch + 0.5) + 0.02) * rng.uniform(0.9, 1.1)
    return {
        "loss": 30 * noise**2,
        "energy_rmse_mev_per_atom": 12 * noise,
        "forces_rmse_mev_per_a": 300 * noise,
    }


def _predictions(
    scale: float, frames: int, stress: bool, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    numbers = np.array([6] * 12 + [1] * 12 + [7] * 2 + [8])
    atoms = len(numbers)
    spread = 40 * scale
    reference = rng.normal(0, spread + 0.8, (frames * atoms, 3))
    energy = -17600 + rng.normal(0, 0.6 + spread, frames)
    arrays = {
        "num_atoms": np.full(frames, atoms),
        "numbers": np.tile(numbers, frames),
        "e0": np.full(frames, -17470.0),
        "energy_reference": energy,
        "energy": energy + rng.normal(0, scale, frames),
        "forces_reference": reference,
        "forces": reference + rng.normal(0, scale, reference.shape) * (1 + 0.2 * np.abs(reference)),
    }
    if stress:
        values = rng.normal(0, 0.02, (frames, 3, 3))
        arrays["stress_reference"] = values + values.swapaxes(1, 2)
        noise = rng.normal(0, 0.001, (frames, 3, 3))
        arrays["stress"] = arrays["stress_reference"] + noise + noise.swapaxes(1, 2)
    return arrays
