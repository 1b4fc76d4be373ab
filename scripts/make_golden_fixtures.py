"""Make `tests/golden/`: energies, forces and stresses of MACE models with random weights.

The values come from mace-torch 0.3.16 in double precision, run in an environment of its own that
this script makes when no `--python` is given. Each model is small, has random weights, and is one
combination of interaction blocks, degrees, correlation and radial options; each is evaluated on
the same few structures. For every model two files are written: NAME.json with the
hyperparameters by MACE's own names, and NAME.safetensors with the weights by their torch names
(`weights/…`) and, for structure `i`, `i/positions`, `i/numbers`, `i/cell`, `i/pbc`, `i/energy`,
`i/node_energy`, `i/forces`, `i/num_edges`, and `i/stress` where it is periodic in all directions.

    python scripts/make_golden_fixtures.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "golden"
SEED = 20_240_607

COMMON: dict[str, Any] = {
    "model": "ScaleShiftMACE",
    "r_max": 4.5,
    "num_bessel": 6,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "interaction": "RealAgnosticResidualInteractionBlock",
    "interaction_first": "RealAgnosticResidualInteractionBlock",
    "num_interactions": 2,
    "hidden_irreps": "4x0e+4x1o",
    "MLP_irreps": "5x0e",
    "gate": "silu",
    "avg_num_neighbors": 9.0,
    "correlation": 2,
    "radial_MLP": [12, 16],
    "radial_type": "bessel",
    "pair_repulsion": False,
    "distance_transform": "None",
    "atomic_inter_scale": 6.0,
    "atomic_inter_shift": 0.3,
    "atomic_numbers": [1, 6, 8, 29],
    "atomic_energies": [-13.6, -1029.5, -2041.8, -1.7],
}

VARIANTS: dict[str, dict[str, Any]] = {
    "residual_l1": {"correlation": 3, "max_ell": 3},
    "plain_first_l1": {
        "interaction_first": "RealAgnosticInteractionBlock",
        "correlation": 3,
        "num_polynomial_cutoff": 6,
    },
    "plain_l0_three_layers": {
        "model": "MACE",
        "interaction": "RealAgnosticInteractionBlock",
        "interaction_first": "RealAgnosticInteractionBlock",
        "num_interactions": 3,
        "hidden_irreps": "6x0e",
        "pair_repulsion": True,
        "max_ell": 3,
    },
    "one_layer": {
        "model": "MACE",
        "num_interactions": 1,
        "correlation": 1,
        "hidden_irreps": "5x0e+5x1o",
        "radial_MLP": [8, 8, 8],
    },
    "density_residual_one_layer": {
        "interaction": "RealAgnosticDensityResidualInteractionBlock",
        "interaction_first": "RealAgnosticDensityResidualInteractionBlock",
        "num_interactions": 1,
        "distance_transform": "Agnesi",
    },
    "density_residual_l2_agnesi_zbl": {
        "interaction": "RealAgnosticDensityResidualInteractionBlock",
        "interaction_first": "RealAgnosticDensityInteractionBlock",
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "max_ell": 3,
        "correlation": 3,
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
    },
    "density_l3_three_layers": {
        "interaction": "RealAgnosticDensityInteractionBlock",
        "interaction_first": "RealAgnosticDensityInteractionBlock",
        "num_interactions": 3,
        "hidden_irreps": "3x0e+3x1o+3x2e+3x3o",
        "max_ell": 3,
    },
    "correlation_4": {"correlation": 4, "hidden_irreps": "3x0e+3x1o"},
}


def structures() -> list[Any]:
    """The structures every model is evaluated on, as ASE atoms."""
    from ase import Atoms
    from ase.build import fcc111, molecule

    random = np.random.default_rng(SEED)

    def shaken(atoms: Atoms) -> Atoms:
        atoms.positions += random.normal(scale=0.08, size=atoms.positions.shape)
        return atoms

    slab = fcc111("Cu", (2, 2, 2), vacuum=None)
    slab.cell[2] = [0.0, 0.0, 12.0]
    slab += Atoms("CO", positions=[[1.3, 0.7, 4.0], [1.3, 0.7, 5.15]])
    slab.pbc = (True, True, False)
    sheared = [[2.9, 0.1, 0.0], [1.1, 3.1, -0.2], [0.4, -0.9, 3.4]]  # thinner than the cutoff
    return [
        Atoms("O", positions=[[0.3, -0.2, 0.1]]),
        Atoms("CH", positions=[[0.0, 0.0, 0.0], [0.35, 0.4, -0.28]]),  # 0.6 Å apart
        shaken(molecule("CH3CH2OH")),
        Atoms("CuOH", scaled_positions=random.random((3, 3)), cell=sheared, pbc=True),
        shaken(slab),
    ]


def build(settings: dict[str, Any]) -> Any:
    """A torch model with random weights."""
    import torch
    from e3nn import o3
    from mace import modules

    arguments = dict(
        r_max=settings["r_max"],
        num_bessel=settings["num_bessel"],
        num_polynomial_cutoff=settings["num_polynomial_cutoff"],
        max_ell=settings["max_ell"],
        interaction_cls=modules.interaction_classes[settings["interaction"]],
        interaction_cls_first=modules.interaction_classes[settings["interaction_first"]],
        num_interactions=settings["num_interactions"],
        num_elements=len(settings["atomic_numbers"]),
        hidden_irreps=o3.Irreps(settings["hidden_irreps"]),
        MLP_irreps=o3.Irreps(settings["MLP_irreps"]),
        gate=torch.nn.functional.silu,
        atomic_energies=np.asarray(settings["atomic_energies"]),
        avg_num_neighbors=settings["avg_num_neighbors"],
        atomic_numbers=settings["atomic_numbers"],
        correlation=settings["correlation"],
        radial_MLP=settings["radial_MLP"],
        radial_type=settings["radial_type"],
        pair_repulsion=settings["pair_repulsion"],
        distance_transform=settings["distance_transform"],
    )
    if settings["model"] == "MACE":
        return modules.MACE(**arguments)
    return modules.ScaleShiftMACE(
        **arguments,
        atomic_inter_scale=settings["atomic_inter_scale"],
        atomic_inter_shift=settings["atomic_inter_shift"],
    )


def evaluate(model: Any, atoms: Any, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Energy, per-atom energies, forces and, in a bulk, stress of one structure."""
    from mace import data, tools
    from mace.tools import torch_geometric

    table = tools.AtomicNumberTable(settings["atomic_numbers"])
    config = data.config_from_atoms(atoms.copy())
    item = data.AtomicData.from_config(config, z_table=table, cutoff=settings["r_max"])
    batch = next(iter(torch_geometric.dataloader.DataLoader([item], batch_size=1)))
    bulk = bool(np.all(atoms.pbc))
    output = model(batch.to_dict(), compute_force=True, compute_stress=bulk)
    values = {
        "positions": atoms.positions,
        "numbers": atoms.numbers.astype(np.int64),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc.astype(np.int64),
        "energy": output["energy"].detach().numpy(),
        "node_energy": output["node_energy"].detach().numpy(),
        "forces": output["forces"].detach().numpy(),
        "num_edges": np.array([batch.edge_index.shape[1]]),
    }
    if bulk:
        values["stress"] = output["stress"].detach().numpy().reshape(3, 3)
    return values


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Parameters, and the buffers that hold a model's constants, by torch name."""
    constants = (
        "atomic_energies_fn.atomic_energies",
        "radial_embedding.bessel_fn.bessel_weights",
        "scale_shift.scale",
        "scale_shift.shift",
    )
    arrays = {name: value for name, value in model.named_parameters() if value.numel()}
    arrays |= {name: value for name, value in model.named_buffers() if name in constants}
    return {name: np.atleast_1d(value.detach().numpy()) for name, value in arrays.items()}


def generate() -> None:
    """Write every variant; runs inside the environment that has mace-torch."""
    import e3nn
    import mace
    import torch
    from safetensors.numpy import save

    torch.set_default_dtype(torch.float64)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for index, (name, changes) in enumerate(VARIANTS.items()):
        settings = COMMON | changes
        torch.manual_seed(SEED + index)
        model = build(settings)
        arrays = {f"weights/{key}": value for key, value in weights_of(model).items()}
        for i, atoms in enumerate(structures()):
            values = evaluate(model, atoms, settings)
            arrays |= {f"{i}/{key}": np.ascontiguousarray(v) for key, v in values.items()}
        if settings["model"] == "MACE":
            settings = {k: v for k, v in settings.items() if not k.startswith("atomic_inter")}
        settings["num_parameters"] = sum(p.numel() for p in model.parameters())
        settings["dtype"] = "float64"
        settings["source"] = f"mace-torch {mace.__version__}, e3nn {e3nn.__version__}"
        (FOLDER / f"{name}.safetensors").write_bytes(save(arrays))
        (FOLDER / f"{name}.json").write_text(json.dumps(settings, indent=1) + "\n")
        size = (FOLDER / f"{name}.safetensors").stat().st_size
        print(f"{name}: {settings['num_parameters']} parameters, {size / 1000:.0f} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, help="a Python that has mace-torch 0.3.16")
    arguments = parser.parse_args()
    if importlib.util.find_spec("mace") is not None:
        generate()
        return
    from peers.environments import interpreter

    python = interpreter("mace-torch", arguments.python)
    subprocess.run([python, "-W", "ignore", __file__], check=True)


if __name__ == "__main__":
    sys.exit(main())
