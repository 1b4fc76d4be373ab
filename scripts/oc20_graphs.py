"""Write S2EF files as an LMDB of pickled graphs, with the torch_geometric that is installed.

    python scripts/oc20_graphs.py data.0000.lmdb 0.extxyz.xz --labels old
    python scripts/oc20_graphs.py data.lmdb 0.extxyz.xz 1.extxyz.xz --labels relaxed

Called by `make_oc20_mini.py` in environments of their own: the layout of a pickled graph is that of
the release that writes it. The energy in a graph is the adsorption energy, that is, the energy in
the extended XYZ minus the reference energy in the third column of the `.txt.xz` beside it. With
`relaxed` there is one graph for each relaxation, as in IS2RE and IS2RS: the first frame, with
energy and positions of the last.
"""

from __future__ import annotations

import argparse
import lzma
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

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


class Frame(NamedTuple):
    """A frame of an S2EF file, the names of its relaxation and step, its adsorption energy (eV)."""

    atoms: Atoms
    sid: int
    fid: int
    energy: float


class Uncompiled(ModuleType):
    """Stands for a compiled companion of torch_geometric 1, imported by it but not needed here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def main() -> None:
    """Write the LMDB."""
    parser = argparse.ArgumentParser(description="Write an LMDB of pickled graphs.")
    parser.add_argument("target", type=Path, help="the LMDB to write")
    parser.add_argument("sources", type=Path, nargs="+", help="S2EF files, N.extxyz.xz")
    parser.add_argument(
        "--labels", choices=("old", "new", "relaxed"), required=True, help="names and types"
    )
    parser.add_argument("--edges", action="store_true", help="store the edges, too")
    parser.add_argument("--length", action="store_true", help="store the number of graphs, too")
    arguments = parser.parse_args()

    frames = [frame for source in arguments.sources for frame in read_s2ef(source)]
    graphs = list(
        relaxations(frames)
        if arguments.labels == "relaxed"
        else (single_point(frame, old=arguments.labels == "old") for frame in frames)
    )
    arguments.target.unlink(missing_ok=True)
    graph_class = data_class()
    with (
        lmdb.open(str(arguments.target), subdir=False, lock=False, map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, (atoms, fields) in enumerate(graphs):
            if arguments.edges:
                fields |= edges(atoms)
            value = pickle.dumps(graph_class(**fields), protocol=4 if FIRST_GENERATION else 5)
            transaction.put(str(index).encode("ascii"), value)
        if arguments.length:
            transaction.put(b"length", pickle.dumps(len(graphs), protocol=-1))
    print(f"{arguments.target.name}: {len(graphs)} graphs by torch_geometric", flush=True)


def read_s2ef(source: Path) -> Iterator[Frame]:
    """The frames of `N.extxyz.xz`, each with its line of `N.txt.xz`."""
    frames = read(source, ":", format="extxyz")
    with lzma.open(str(source).replace(".extxyz.", ".txt."), "rt") as file:
        lines = file.read().split()
    for atoms, line in zip(frames, lines, strict=True):
        sid, fid, reference = line.split(",")
        energy = atoms.get_potential_energy() - float(reference)
        yield Frame(atoms, int(sid.removeprefix("random")), int(fid.removeprefix("frame")), energy)


def data_class() -> type:
    """`torch_geometric.data.Data` of either generation."""
    if FIRST_GENERATION:
        for companion in ("torch_sparse", "torch_scatter", "torch_cluster", "torch_spline_conv"):
            sys.modules[companion] = Uncompiled(companion)
    from torch_geometric.data import Data

    return Data


def single_point(frame: Frame, *, old: bool) -> tuple[Atoms, dict[str, Any]]:
    """A frame and its fields as in S2EF, with the names and types of old or newer files."""
    forces = torch.Tensor(frame.atoms.get_forces(apply_constraint=False))
    names = ("y", "force") if old else ("energy", "forces")
    fields = structure(frame.atoms, torch.float32 if old else torch.int64)
    labels = dict(zip(names, (frame.energy, forces), strict=True))
    origin = {"sid": frame.sid, "fid": frame.fid, "level_of_theory": "EMT"}
    return frame.atoms, {**fields, **origin, **labels}


def relaxations(frames: Sequence[Frame]) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """The first frame of each relaxation and its fields as in IS2RE."""
    for sid, group in groupby(frames, key=lambda frame: frame.sid):
        first, *_, last = group
        yield (
            first.atoms,
            {
                **structure(first.atoms, torch.float32),
                "sid": sid,
                "level_of_theory": "EMT",
                "y_init": first.energy,
                "y_relaxed": last.energy,
                "pos_relaxed": torch.Tensor(last.atoms.positions),
            },
        )


def structure(atoms: Atoms, number: torch.dtype) -> dict[str, Any]:
    """The fields without labels; `number` is the type of atomic numbers and of the fixed atoms."""
    fixed = np.zeros(len(atoms))
    fixed[atoms.constraints[0].index] = 1
    return {
        "pos": torch.Tensor(atoms.positions),
        "cell": torch.Tensor(atoms.cell.array).view(1, 3, 3),
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=number),
        "natoms": len(atoms),
        "tags": torch.tensor(atoms.get_tags(), dtype=torch.int64),
        "fixed": torch.tensor(fixed, dtype=number),
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
