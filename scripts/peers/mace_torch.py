"""Worker: mace-torch, through the functions its own command line uses."""

from __future__ import annotations

import importlib.metadata
import os
from itertools import cycle
from typing import Any

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4 keeps its constants in a pickle

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from frames import ase_step, bare, training_frames
from mace import data, modules, tools
from mace.calculators import MACECalculator
from mace.tools import torch_geometric
from mace.tools.train import take_step
from protocol import Setting, Step, serve, setting_from_arguments
from torch_ema import ExponentialMovingAverage


def make_model(setting: Setting, frames: list[Atoms]) -> tuple[torch.nn.Module, Any]:
    """A `ScaleShiftMACE` with random weights, and its table of elements."""
    numbers = sorted({int(z) for atoms in frames for z in atoms.numbers})
    energies = [atoms.get_potential_energy() / len(atoms) for atoms in frames]
    hidden = "+".join(
        f"{setting.channels}x{l}{'eo'[l % 2]}" for l in range(setting.hidden_lmax + 1)
    )
    blocks = modules.interaction_classes
    model = modules.ScaleShiftMACE(
        r_max=setting.cutoff,
        num_bessel=setting.num_bessel,
        num_polynomial_cutoff=5,
        max_ell=setting.lmax,
        interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
        num_interactions=setting.layers,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.full(len(numbers), np.mean(energies)),
        avg_num_neighbors=17.0,
        atomic_numbers=numbers,
        correlation=setting.correlation,
        radial_MLP=[64, 64, 64],
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return model, tools.AtomicNumberTable(numbers)


def training_step(model: torch.nn.Module, table: Any, frames: list[Atoms], s: Setting) -> Step:
    """Loss, gradient, optimiser and weight average on one batch after the other."""
    keys = data.KeySpecification(info_keys={"energy": "label"}, arrays_keys={"forces": "label"})
    items = []
    for atoms in frames:
        labelled = bare(atoms)
        labelled.info["label"] = atoms.get_potential_energy()
        labelled.arrays["label"] = atoms.get_forces()
        config = data.config_from_atoms(labelled, key_specification=keys)
        items.append(data.AtomicData.from_config(config, z_table=table, cutoff=s.cutoff))
    loader = torch_geometric.dataloader.DataLoader(items, batch_size=s.batch_size, drop_last=True)
    batches = cycle(list(loader))
    loss = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.99)
    wanted = {"forces": True, "virials": False, "stress": False}
    device = torch.device("cpu")

    def step() -> None:
        take_step(model, loss, next(batches), optimizer, average, wanted, 10.0, device)

    return step


def calculator_step(model: torch.nn.Module, atoms: Atoms) -> Step:
    """Energy and forces of moving atoms through the calculator."""
    atoms = bare(atoms)
    atoms.calc = MACECalculator(models=[model], device="cpu", default_dtype="float32")
    return ase_step(atoms)


def main() -> None:
    setting = setting_from_arguments()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    frames = training_frames(setting.xyz, setting.frames)
    model, table = make_model(setting, frames)
    describe = {
        "versions": {name: importlib.metadata.version(name) for name in ("mace-torch", "torch")},
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
    }
    # The calculator freezes the parameters of the model it is given: it gets one of its own.
    calculator_model, _ = make_model(setting, frames)
    steps = {
        "train": training_step(model, table, frames, setting),
        "ase": calculator_step(calculator_model, frames[0]),
    }
    serve(describe, steps)


if __name__ == "__main__":
    main()
