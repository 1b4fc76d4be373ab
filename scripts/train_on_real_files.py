"""Train some hundred steps on every real file of a folder, and print how far the errors fall.

The folder holds published data: 3BPA, crystals under pressure with stress, nablaDFT, OC20 in two
formats, pickled graphs of OC22, ANI-1x and Transition1x, solvent clusters. What is not there is
left out and named.

    python scripts/train_on_real_files.py FOLDER [--only NAME …] [--steps 300] [key=value …]

A line holds the number of training and validation frames, the training loss over the first and over
the last ten steps, and the errors of the validation frames before and after the training.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mlip import runtime
from mlip.cli.build import fit_data, load_and_check, make_batches, new_model
from mlip.cli.compose import compose
from mlip.cli.schema import TrainConfig
from mlip.cli.validate import validate

SMALL = ["model=mace_small", "model.channels=16", "model.correlation=2"]
SHORT = ["schedule.warmup_steps=10", "trainer.ema_decay=0.9"]  # for some hundred steps
# Squared errors, but for the few forces that are far larger than the others.
ROBUST = ["loss=huber", "loss.huber_delta=1"]
SAY_ENERGY = ["loss.energy_weight=10"]  # few frames of many compositions: E0 leave much
XTB = ["dataset.keys.energy=energy_xtb", "dataset.keys.forces=forces_xtb"]
SAME_LEVEL = ["dataset.isolated_atoms=3bpa/iso_atoms.xyz"]  # wB97X/6-31G(d)
OC20_E0 = ["dataset.e0=oc20/oc20_linref.npz", "dataset.mask_fixed=true"]
ATOMISATION = ["dataset.e0={H: 0, C: 0, N: 0, O: 0, F: 0, S: 0, Cl: 0, Br: 0}"]
RUNS = {
    "3bpa/train_300K.xyz": SAME_LEVEL,
    "3bpa/train_mixedT.xyz": SAME_LEVEL,
    "mptrj_tp/mpf-alkali-TP.xyz": ["dataset.e0=least_squares", "loss.stress_weight=10"],
    "nabladft/test_database.db": ATOMISATION,
    "oc20": ["dataset.format=s2ef", *OC20_E0, *ROBUST],  # the same folder holds an ASE-LMDB
    "oc20/s2ef_60.aselmdb": [*OC20_E0, *ROBUST],
    # Elements that training frames lack have an E0; a stream takes such validation frames.
    "oc22_pickled/oc22_pickle16_train.pkl": [
        "dataset.valid=oc22_pickled/oc22_pickle16_val.pkl",
        "dataset.e0=oc20/oc22_linfit_coeffs.npz",
        "dataset.stream=true",
        *ROBUST,
        *SAY_ENERGY,
    ],
    "oc22_pickled/ani1x_pickle16_train.pkl": [
        "dataset.valid=oc22_pickled/ani1x_pickle16_val.pkl", *SAME_LEVEL, *SAY_ENERGY,
    ],
    "oc22_pickled/trans1x_pickle16_train.pkl": [
        "dataset.valid=oc22_pickled/trans1x_pickle16_val.pkl", *SAME_LEVEL, *SAY_ENERGY,
    ],
    "solvent_xtb/solvent_xtb_train_20.xyz": XTB,
    "solvent_xtb/solvent_xtb_train_50.xyz": XTB,
    "solvent_xtb/solvent_xtb_train_200.xyz": XTB,
    "solvent_xtb/solvent_xtb_test_300.xyz": [
        *XTB, "dataset.isolated_atoms=solvent_xtb/solvent_xtb_train_20.xyz@:3",
    ],
}  # fmt: skip
HEADER = """\
| file | frames | training loss | validation: energy, meV/atom | forces, meV/Å | options |
|---|---:|---:|---:|---:|---|"""


def train(words: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """Numbers of training and validation frames, and the rows of metrics.jsonl of a run."""
    settings = validate(TrainConfig, compose("train", words))
    trainer = settings.trainer
    runtime.prepare(trainer.precision)
    dataset, _ = load_and_check(settings.dataset, settings.model.cutoff)
    data = make_batches(
        dataset,
        settings.model,
        batch_size=trainer.batch_size,
        precision=trainer.precision,
        seed=trainer.seed,
    )
    with tempfile.TemporaryDirectory() as run_dir:
        model = new_model(data.config, seed=trainer.seed, precision=trainer.precision)
        result = fit_data(settings, data, model, run_dir)
    return f"{len(dataset.train)} + {len(dataset.valid)}", result.history


def line(name: str, frames: str, rows: list[dict[str, Any]], options: list[str]) -> str:
    """A line of the table."""
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    before, *_, after = [row for row in rows if row["kind"] == "valid"]
    energy, forces = (
        f"{before[key]:.0f} → {after[key]:.0f}"
        for key in ("energy_rmse_mev_per_atom", "forces_rmse_mev_per_a")
    )
    loss, told = f"{losses[0]:.3g} → {losses[-1]:.3g}", " ".join(options)
    return f"| `{name}` | {frames} | {loss} | {energy} | {forces} | `{told}` |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*RUNS], default=[*RUNS])
    parser.add_argument("--steps", type=int, default=300)
    arguments, further = parser.parse_known_args()
    limits = [
        f"trainer.max_steps={arguments.steps}", "trainer.max_epochs=null",
        f"trainer.validate_steps={arguments.steps}",
    ]  # fmt: skip
    table = [HEADER]
    for name in arguments.only:
        if not (arguments.folder / name).exists():
            print(f"{name} is left out: not in {arguments.folder}")
            continue
        data = [f"dataset.root={arguments.folder}", f"dataset.train={name}", *RUNS[name]]
        frames, rows = train([*data, *SMALL, *SHORT, *limits, *further])
        table.append(line(name, frames, rows, RUNS[name]))
        print(table[-1], flush=True)
    print("\n".join(table))


if __name__ == "__main__":
    main()
