"""Write one S2EF file as an LMDB of pickled graphs, with the torch_geometric that is installed.

    python scripts/oc20_graphs.py 0.extxyz.xz data.0000.lmdb --labels old

Called by `make_oc20_mini.py` in environments of their own: the layout of a pickled graph is that of
the release that writes it. The energy in a graph is the adsorption energy, that is, the energy in
the extended XYZ minus the reference energy in the third column of the `.txt.xz` beside it.
"""

from __future__ import annotations

import argparse
import lzma
import os
import pickle
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["PYTORCH_JIT"] = "0"  # torch_geometric 1 would compile functions of its companions

import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.io import read
from ase.neighborlist import neighbor_list

CUTOFF = 6.0  # Å
MAX_NEIGHBORS = 50
FIRST_GENERATION = version("torch-geometric").startswith("1.")


class Uncompiled(ModuleType):
    """Stands for a compiled companion of torch_geometric 1, imported by it but not needed here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def main() -> None:
    """Write the LMDB."""
    parser = argparse.ArgumentParser(description="Write an LMDB of pickled graphs.")
    parser.add_argument("source", type=Path, help="an S2EF file, N.extxyz.xz")
    parser.add_argument("target", type=Path, help="the LMDB to write")
    parser.add_argument("--labels", choices=("old", "new"), required=True, help="names and types")
    parser.add_argument("--edges", action="store_true", help="store the edges, too")
    parser.add_argument("--length", action="store_true", help="store the number of graphs, too")
    arguments = parser.parse_args()

    frames = read(arguments.source, ":", format="extxyz")
    with lzma.open(str(arguments.source).replace(".extxyz.", ".txt."), "rt") as file:
        lines = file.read().split()
    arguments.target.unlink(missing_ok=True)
    graph_class = data_class()
    with (
        lmdb.open(str(arguments.target), subdir=False, lock=False, map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, (atoms, line) in enumerate(zip(frames, lines, strict=True)):
            fields = graph(atoms, line, old=arguments.labels == "old")
            if arguments.edges:
                fields |= edges(atoms)
            value = pickle.dumps(graph_class(**fields), protocol=4 if FIRST_GENERATION else 5)
            transaction.put(str(index).encode("ascii"), value)
        if arguments.length:
            transaction.put(b"length", pickle.dumps(len(frames), protocol=-1))
    print(f"{arguments.target.name}: {len(frames)} graphs by torch_geometric", flush=True)


def data_class() -> type:
    """`torch_geometric.data.Data` of either generation."""
    if FIRST_GENERATION:
        for companion in ("torch_sparse", "torch_scatter", "torch_cluster", "torch_spline_conv"):
            sys.modules[companion] = Uncompiled(companion)
    from torch_geometric.data import Data

    return Data


def graph(atoms: Atoms, line: str, *, old: bool) -> dict[str, Any]:
    """The fields of a frame, under the names and with the types of old or newer files."""
    sid, fid, reference = line.split(",")
    fixed = np.zeros(len(atoms))
    fixed[atoms.constraints[0].index] = 1
    energy = atoms.get_potential_energy() - float(reference)
    forces = torch.Tensor(atoms.get_forces(apply_constraint=False))
    number = torch.float32 if old else torch.int64
    return {
        "pos": torch.Tensor(atoms.positions),
        "cell": torch.Tensor(atoms.cell.array).view(1, 3, 3),
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=number),
        "natoms": len(atoms),
        "tags": torch.tensor(atoms.get_tags(), dtype=torch.int64),
        "fixed": torch.tensor(fixed, dtype=number),
        "sid": int(sid.removeprefix("random")),
        "fid": int(fid.removeprefix("frame")),
        "level_of_theory": "EMT",
        **({"y": energy, "force": forces} if old else {"energy": energy, "forces": forces}),
    }


def edges(atoms: Atoms) -> dict[str, torch.Tensor]:
    """The nearest neighbours of each atom, from neighbour to atom, and the cells they are in."""
    centers, neighbors, distances, offsets = neighbor_list("ijdS", atoms, CUTOFF)
    nearest = np.lexsort((distances, centers))
    rank = np.arange(len(centers)) - np.searchsorted(centers[nearest], centers[nearest])
    kept = nearest[rank < MAX_NEIGHBORS]
    return {
        "edge_index": torch.tensor(np.stack([neighbors[kept], centers[kept]])),
        "cell_offsets": torch.tensor(offsets[kept]),
        "distances": torch.Tensor(distances[kept]),
    }


if __name__ == "__main__":
    main()
