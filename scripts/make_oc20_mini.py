"""Make `datasets/oc20_mini`: adsorbates on metal slabs relaxed with ASE's EMT, in OC20's formats.

    pip install ase==3.29.0
    python scripts/make_oc20_mini.py

The relaxations are written as S2EF is published, `.extxyz.xz` beside `.txt.xz`. From these files
`oc20_graphs.py` writes the LMDBs of pickled graphs, those of S2EF and those of IS2RE, run by this
script in environments that have torch and torch_geometric, which are made under `.venvs/` when they
are absent. EMT labels are a stand-in for DFT: they have its form, not its chemistry. Runs for a few
minutes.
"""

from __future__ import annotations

import argparse
import io
import lzma
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc100, fcc111, fcc211, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.io import write
from ase.optimize import BFGS
from peers.environments import interpreter
from scipy.optimize import minimize_scalar

SCRIPTS = Path(__file__).resolve().parent
FOLDER = SCRIPTS.parent / "datasets" / "oc20_mini"
SEED = 20260
FMAX, MAX_STEPS = 0.03, 200  # eV/Å; where a relaxation ends, as in OC20
FRAMES = 10  # kept of each relaxation, the first and the last among them
RATTLE = 0.05  # Å, standard deviation of the free slab atoms' first displacement
VACUUM = 15.0  # Å between a slab and its image
DECIMALS = 8  # of the extended XYZ writer
COLUMNS = ["symbols", "positions", "move_mask", "tags", "forces"]

FACETS = {
    "111": (fcc111, ((2, 2, 4), (3, 2, 3), (3, 3, 3))),
    "100": (fcc100, ((2, 2, 4), (3, 2, 3), (3, 3, 3))),
    "211": (fcc211, ((3, 2, 3), (3, 3, 3))),
}


class Split(NamedTuple):
    """Which systems a split draws from; `shards` files of `systems` relaxations each."""

    name: str
    shards: int
    systems: int
    metals: tuple[tuple[str, str], ...]  # host, and what replaces a quarter of it
    adsorbates: tuple[str, ...]


KNOWN_METALS = (
    *(("Al", "Al"), ("Ni", "Ni"), ("Cu", "Cu"), ("Pd", "Pd"), ("Ag", "Ag"), ("Pt", "Pt")),
    *(("Au", "Au"), ("Cu", "Pt"), ("Pd", "Au"), ("Ag", "Al")),
)
KNOWN_ADSORBATES = ("H", "C", "N", "O", "CO", "NO", "OH", "NH3", "CH3")
OTHER_METALS = (("Cu", "Au"), ("Pt", "Pd"), ("Ni", "Al"), ("Ag", "Cu"))
OTHER_ADSORBATES = ("CH", "NH", "CN")
SPLITS = (
    Split("train", 2, 12, KNOWN_METALS, KNOWN_ADSORBATES),
    Split("val_id", 1, 5, KNOWN_METALS, KNOWN_ADSORBATES),
    Split("val_ood_both", 1, 5, OTHER_METALS, OTHER_ADSORBATES),
)


class System(NamedTuple):
    """An adsorbate, and a slab to put it on."""

    adsorbate: str
    host: str
    guest: str
    facet: str


class Relaxation(NamedTuple):
    """What is kept of one: its name, its reference energy (eV), and frames with their `step`."""

    sid: str
    reference: float
    frames: list[Atoms]


class Shard(NamedTuple):
    """How `oc20_graphs.py` writes one LMDB: from which chunks of a split, with which release."""

    target: str
    split: str
    chunks: tuple[int, ...]
    environment: str
    labels: str
    extras: tuple[str, ...] = ()


OLD, NEW = "torch-geometric-1", "torch-geometric-2"
SHARDS = (
    Shard("lmdb/train/data.0000.lmdb", "train", (0,), NEW, "old", ("--length",)),
    Shard("lmdb/train/data.0001.lmdb", "train", (1,), NEW, "new"),
    Shard("lmdb/val_id/data.0000.lmdb", "val_id", (0,), OLD, "old", ("--edges",)),
    Shard("lmdb/val_ood_both/data.0000.lmdb", "val_ood_both", (0,), NEW, "new", ("--length",)),
    Shard("is2re/all/train/data.lmdb", "train", (0, 1), OLD, "relaxed"),
    Shard("is2re/all/val_id/data.lmdb", "val_id", (0,), OLD, "relaxed", ("--edges",)),
    Shard("is2re/all/val_ood_both/data.lmdb", "val_ood_both", (0,), OLD, "relaxed"),
)


def main() -> None:
    """Write both forms of all splits."""
    parser = argparse.ArgumentParser(description="Make datasets/oc20_mini.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    folder = parser.parse_args().output

    for split in SPLITS:
        target = folder / "s2ef" / split.name
        target.mkdir(parents=True, exist_ok=True)
        found = relaxations(split)
        for index in range(split.shards):
            write_s2ef(target, index, list(islice(found, split.systems)))
    for shard in SHARDS:
        write_graphs(folder, shard)


def relaxations(split: Split) -> Iterator[Relaxation]:
    """The relaxations of a split, one after the other."""
    generator = np.random.default_rng([SEED, SPLITS.index(split)])
    for system in draw(split, generator):
        yield relaxation(system, generator)


def draw(split: Split, generator: np.random.Generator) -> list[System]:
    """Systems with every metal and every adsorbate about equally often, no pair of them twice.

    Both lists are gone through in circles; their lengths have no common factor.
    """
    adsorbates = generator.permutation(np.array(split.adsorbates))
    metals = generator.permutation(np.array(split.metals))
    facets = generator.choice(list(FACETS), size=split.shards * split.systems)
    return [
        System(str(adsorbates[k % len(adsorbates)]), *map(str, metals[k % len(metals)]), str(facet))
        for k, facet in enumerate(facets)
    ]


def relaxation(system: System, generator: np.random.Generator) -> Relaxation:
    """Relax an adsorbate on a slab that was relaxed without it."""
    slab = make_slab(system, generator)
    minimise(slab)
    adsorbate = molecule(system.adsorbate)
    reference = energy_of(slab) + sum(gas_references()[s] for s in adsorbate.symbols)
    atoms = place(adsorbate, slab, generator)
    free = atoms.get_tags() == 1
    atoms.positions[free] += generator.normal(scale=RATTLE, size=(int(free.sum()), 3))
    steps = minimise(atoms)
    kept = np.unique(np.linspace(0, len(steps) - 1, FRAMES).round().astype(int))
    sid = int(generator.integers(1_000_000, 10_000_000))
    print(
        f"random{sid} {system}: {len(steps)} steps, E_ads {energy_of(atoms) - reference:.2f} eV",
        flush=True,
    )
    frames = [label(steps[k], system, int(k)) for k in kept]
    return Relaxation(f"random{sid}", reference, frames)


def make_slab(system: System, generator: np.random.Generator) -> Atoms:
    """A slab at EMT's lattice constant (Vegard's law in alloys), its lower layers fixed."""
    build, sizes = FACETS[system.facet]
    constant = 0.75 * lattice_constant(system.host) + 0.25 * lattice_constant(system.guest)
    slab = build(system.host, sizes[generator.integers(len(sizes))], a=constant)
    slab.symbols[generator.permutation(len(slab))[: len(slab) // 4]] = system.guest
    slab.positions[:, 2] -= slab.positions[:, 2].min()
    thickness = slab.positions[:, 2].max()
    slab.cell[2] = [0.0, 0.0, thickness + VACUUM]
    slab.pbc = True
    surface = slab.positions[:, 2] > 0.4 * thickness
    slab.set_tags(surface.astype(int))
    slab.set_constraint(FixAtoms(mask=~surface))
    return slab


@cache
def lattice_constant(metal: str) -> float:
    """EMT's equilibrium lattice constant of an fcc metal, Å."""

    def energy(constant: float) -> float:
        return energy_of(bulk(metal, a=constant))

    guess = bulk(metal, cubic=True).cell[0, 0]
    return float(minimize_scalar(energy, bounds=(0.9 * guess, 1.1 * guess), method="bounded").x)


@cache
def gas_references() -> dict[str, float]:
    """Energy of an atom of each adsorbate element (eV), from H2, N2, H2O and CO as in OC20."""
    gases = {}
    for name in ("H2", "N2", "H2O", "CO"):
        gas = molecule(name)
        minimise(gas)
        gases[name] = energy_of(gas)
    hydrogen = gases["H2"] / 2
    oxygen = gases["H2O"] - gases["H2"]
    return {"H": hydrogen, "N": gases["N2"] / 2, "O": oxygen, "C": gases["CO"] - oxygen}


def place(adsorbate: Atoms, slab: Atoms, generator: np.random.Generator) -> Atoms:
    """Lower the adsorbate, at random place and orientation, until it touches the slab."""
    adsorbate.rotate(generator.uniform(0, 360), "z")
    adsorbate.rotate(generator.uniform(0, 180), "y")
    adsorbate.set_tags([2] * len(adsorbate))
    adsorbate.positions -= adsorbate.positions.mean(axis=0)
    adsorbate.positions += generator.uniform(size=2) @ slab.cell[:2]
    adsorbate.positions[:, 2] += slab.positions[:, 2].max() + 6.0
    radii = covalent_radii[adsorbate.numbers][:, None] + covalent_radii[slab.numbers]
    while True:
        _, distances = get_distances(
            adsorbate.positions, slab.positions, cell=slab.cell, pbc=slab.pbc
        )
        if np.min(distances / radii) < 1.1:
            return slab + adsorbate
        adsorbate.positions[:, 2] -= 0.05


def minimise(atoms: Atoms) -> list[Atoms]:
    """Relax in place.

    Returns:
        a copy of the atoms at each step.
    """
    atoms.calc = EMT()
    run = BFGS(atoms, logfile=None)
    return [atoms.copy() for _ in run.irun(fmax=FMAX, steps=MAX_STEPS)]


def energy_of(atoms: Atoms) -> float:
    """The EMT energy, eV."""
    atoms.calc = atoms.calc or EMT()
    return float(atoms.get_potential_energy())


def label(atoms: Atoms, system: System, step: int) -> Atoms:
    """Label at the rounded coordinates that are written; fixed atoms keep their force."""
    frame = atoms.copy()
    frame.positions = np.round(frame.positions, DECIMALS)
    frame.cell = np.round(frame.cell.array, DECIMALS)
    frame.calc = EMT()
    energy, forces = frame.get_potential_energy(), frame.get_forces(apply_constraint=False)
    frame.calc = SinglePointCalculator(frame, energy=energy, free_energy=energy, forces=forces)
    alloy = "" if system.host == system.guest else f"3{system.guest}"
    frame.info = {
        "level_of_theory": "EMT",
        "system": f"{system.adsorbate}/{system.host}{alloy}({system.facet})",
        "step": step,
    }
    return frame


def write_s2ef(folder: Path, index: int, systems: list[Relaxation]) -> None:
    """`N.extxyz.xz`, and `N.txt.xz` with one line a frame."""
    frames = [frame for _, _, found in systems for frame in found]
    lines = [
        f"{sid},frame{frame.info.pop('step')},{reference!r}\n"
        for sid, reference, found in systems
        for frame in found
    ]
    text = io.StringIO()
    write(text, frames, format="extxyz", columns=COLUMNS)
    for suffix, content in (("extxyz", text.getvalue()), ("txt", "".join(lines))):
        (folder / f"{index}.{suffix}.xz").write_bytes(lzma.compress(content.encode()))


def write_graphs(folder: Path, shard: Shard) -> None:
    """Run `oc20_graphs.py` for one LMDB."""
    sources = [folder / "s2ef" / shard.split / f"{index}.extxyz.xz" for index in shard.chunks]
    target = folder / shard.target
    target.parent.mkdir(parents=True, exist_ok=True)
    python = interpreter(shard.environment)
    command = [python, SCRIPTS / "oc20_graphs.py", target, *sources, "--labels", shard.labels]
    subprocess.run([*command, *shard.extras], check=True)


if __name__ == "__main__":
    main()
