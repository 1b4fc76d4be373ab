"""Make `datasets/pubchemqcr_mini`: relaxations of small molecules at B3LYP/6-31G*, as PubChemQCR.

    pip install ".[datasets]"
    OMP_NUM_THREADS=1 python scripts/make_pubchemqcr_mini.py

Every molecule starts from its geometry in ASE's G2 collection with all atoms displaced at random,
and is relaxed stage by stage, each from the last geometry of the one before, as PubChemQC did. A
molecule that is in the file already is skipped, so that an interrupted run is repeated to go on.
Runs for about an hour on one core.
"""

from __future__ import annotations

import argparse
import gzip
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lmdb
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.optimize import BFGS
from ase.units import Bohr, Hartree
from pyscf import dft, gto, scf

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "pubchemqcr_mini"
SEED = 20250
DISPLACEMENT = 0.06  # Å, standard deviation of each coordinate
DECIMALS = 10  # of the coordinates that are written, and labelled
UNPAIRED = {"H": 1, "C": 2, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1}
HF_FMAX, FIRST_FMAX, SECOND_FMAX = 0.5, 0.3, 0.03  # eV/Å: where a stage ends
MAX_STEPS = 60


class Molecule(NamedTuple):
    """What is relaxed: a compound of PubChem and the stages it goes through."""

    cid: int
    g2: str  # its name in ASE's G2 collection
    hf: bool
    first: Literal["smash", "firefly"] | None  # whose layout the first DFT stage has


SHARDS = {
    "Data01.lmdb": (
        Molecule(176, "CH3COOH", hf=False, first="smash"),
        Molecule(177, "CH3CHO", hf=False, first="firefly"),
        Molecule(178, "CH3CONH2", hf=True, first="smash"),
        Molecule(180, "CH3COCH3", hf=False, first="firefly"),
        Molecule(241, "C6H6", hf=False, first="smash"),
        Molecule(284, "HCOOH", hf=True, first=None),
        Molecule(674, "C2H6NH", hf=False, first="smash"),
        Molecule(679, "C2H6SO", hf=False, first="firefly"),
        Molecule(702, "CH3CH2OH", hf=True, first="smash"),
        Molecule(887, "CH3OH", hf=False, first="firefly"),
        Molecule(1049, "C5H5N", hf=False, first="smash"),
        Molecule(1068, "CH3SCH3", hf=True, first="firefly"),
        Molecule(6329, "H3CNH2", hf=True, first="smash"),
    ),
    "Data02.lmdb": (
        Molecule(6337, "CH3CH2Cl", hf=False, first="smash"),
        Molecule(6338, "H2CCHCl", hf=True, first="firefly"),
        Molecule(6342, "CH3CN", hf=False, first="firefly"),
        Molecule(6345, "H2CF2", hf=False, first="firefly"),
        Molecule(6354, "CH2OCH2", hf=False, first="smash"),
        Molecule(6375, "CH3NO2", hf=False, first="smash"),
        Molecule(7860, "OCHCHO", hf=False, first="firefly"),
    ),
    "Data03.lmdb": (  # the test set
        Molecule(6339, "H2CCHF", hf=False, first="smash"),
        Molecule(6343, "CH3CH2SH", hf=True, first="smash"),
        Molecule(6367, "CH3COCl", hf=True, first=None),
        Molecule(7855, "H2CCHCN", hf=True, first="firefly"),
    ),
}


def main() -> None:
    """Write the shards and the isolated atoms."""
    parser = argparse.ArgumentParser(description="Make datasets/pubchemqcr_mini.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    write(folder / "isolated_atoms.xyz", [isolated_atom(symbol) for symbol in UNPAIRED])
    for name, molecules in SHARDS.items():
        fill(folder / name, molecules)


def fill(path: Path, molecules: tuple[Molecule, ...]) -> None:
    """Relax the molecules that the shard lacks, then drop its unused pages."""
    growing = path.with_suffix(".growing")  # not a name that a reader would open
    if path.exists():
        print(f"{path.name} is complete", flush=True)
        return
    with lmdb.open(str(growing), subdir=False, lock=False, map_size=2**30) as environment:
        for entry in molecules:
            key = f"{entry.cid:09d}".encode("ascii")
            with environment.begin(write=True) as transaction:
                if transaction.get(key) is not None:
                    continue
                began = time.process_time()
                record = relaxation(entry)
                transaction.put(key, gzip.compress(pickle.dumps(record, protocol=4), mtime=0))
            counts = {stage: len(steps) for stage, steps in record.items() if steps}
            minutes = (time.process_time() - began) / 60
            print(f"{entry.cid:09d} {entry.g2}: {counts}, {minutes:.1f} min", flush=True)
        with path.open("wb") as file:
            environment.copyfd(file.fileno(), compact=True)
    growing.unlink()


def relaxation(entry: Molecule) -> dict[str, list[dict[str, Any]] | None]:
    """The record of one molecule: its optimisation steps by stage."""
    atoms = start(entry)
    record: dict[str, list[dict[str, Any]] | None] = dict.fromkeys(
        ("pm3", "hf", "DFT_1st", "DFT_2nd")
    )
    if entry.hf:
        record["hf"] = stage(optimizer(atoms, hartree_fock), HF_FMAX, charge=True)
    run = optimizer(atoms, b3lyp)
    if entry.first is not None:
        record["DFT_1st"] = stage(run, FIRST_FMAX, charge=entry.first == "firefly")
    record["DFT_2nd"] = stage(run, SECOND_FMAX, charge=True)
    return record


def start(entry: Molecule) -> Atoms:
    """The displaced geometry that a relaxation starts from."""
    generator = np.random.default_rng([SEED, entry.cid])
    atoms = molecule(entry.g2)
    atoms.positions += generator.normal(scale=DISPLACEMENT, size=atoms.positions.shape)
    return atoms


def optimizer(atoms: Atoms, method: Callable[[gto.Mole], Any]) -> BFGS:
    """An optimiser of `atoms`, in place."""
    atoms.calc = Gradients(method)
    return BFGS(atoms, logfile=None)


def stage(run: BFGS, fmax: float, *, charge: bool) -> list[dict[str, Any]]:
    """Relax until no force exceeds `fmax` (eV/Å).

    Returns:
        the steps, the first one at the geometry that the stage starts from.
    """
    steps = [step(run.atoms, charge) for _ in run.irun(fmax=fmax, steps=MAX_STEPS)]
    if not run.converged(run.optimizable.get_gradient()):
        raise RuntimeError(f"{run.atoms.get_chemical_formula()}: no minimum in {MAX_STEPS} steps.")
    return steps


def step(atoms: Atoms, charge: bool) -> dict[str, Any]:
    """One step in the published layout: Å, Hartree, Hartree/Bohr.

    The programs that report nuclear charges (GAMESS, Firefly) print symbols in capitals.
    """
    heads: list[dict[str, Any]] = [
        {"atom": symbol.upper(), "charge": float(number)} if charge else {"atom": symbol}
        for symbol, number in zip(atoms.symbols, atoms.numbers, strict=True)
    ]
    results = atoms.calc.results
    coordinates = np.round(atoms.positions, DECIMALS).tolist()
    gradient = results["gradient"].tolist()
    return {
        "coordinates": [
            {**head, **dict(zip("xyz", row, strict=True))}
            for head, row in zip(heads, coordinates, strict=True)
        ],
        "energy": results["energy_hartree"],
        "gradient": [
            {**head, **dict(zip(("dx", "dy", "dz"), row, strict=True))}
            for head, row in zip(heads, gradient, strict=True)
        ],
    }


class Gradients(Calculator):
    """Energy and gradient by PySCF, at the rounded coordinates that are written."""

    implemented_properties = ("energy", "forces")

    def __init__(self, method: Callable[[gto.Mole], Any]) -> None:
        super().__init__()
        self.method = method
        self.density: np.ndarray | None = None  # of the step before: the next one's guess

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute both properties, in ASE's units and in atomic ones."""
        super().calculate(atoms, properties, system_changes)
        field = self.method(mole(self.atoms))
        energy = field.kernel(dm0=self.density)
        if not field.converged:
            raise RuntimeError(f"{self.atoms.get_chemical_formula()}: the SCF did not converge.")
        self.density = field.make_rdm1()
        derivative = field.nuc_grad_method()
        derivative.grid_response = True  # so that it is the derivative of this very energy
        gradient = derivative.kernel()
        self.results = {
            "energy": energy * Hartree,
            "forces": -gradient * Hartree / Bohr,
            "energy_hartree": float(energy),
            "gradient": gradient,
        }


def mole(atoms: Atoms, unpaired: int = 0) -> gto.Mole:
    """PySCF's molecule, with Cartesian d functions (six a shell)."""
    positions = np.round(atoms.positions, DECIMALS)
    return gto.M(
        atom=list(zip(atoms.symbols, positions.tolist(), strict=True)),
        basis="6-31g*",
        cart=True,
        spin=unpaired,
        verbose=0,
    )


def b3lyp(molecule: gto.Mole) -> Any:
    """B3LYP/6-31G*, restricted; unrestricted for open shells."""
    field = dft.KS(molecule, xc="b3lyp")
    field.grids.level = 2
    field.conv_tol, field.conv_tol_grad = 1e-10, 1e-6
    return field


def hartree_fock(molecule: gto.Mole) -> Any:
    """HF/STO-6G, the level of PubChemQC's stage before DFT."""
    field = scf.RHF(molecule.copy().set(basis="sto-6g").build())
    field.conv_tol, field.conv_tol_grad = 1e-10, 1e-6
    return field


def isolated_atom(symbol: str) -> Atoms:
    """An atom in its ground-state multiplicity, at the level of the DFT stages."""
    atom = Atoms(symbol, positions=np.zeros((1, 3)))
    field = b3lyp(mole(atom, UNPAIRED[symbol])).newton()
    energy = field.kernel()
    if not field.converged:
        raise RuntimeError(f"{symbol}: the SCF did not converge.")
    atom.calc = SinglePointCalculator(atom, energy=energy * Hartree, forces=np.zeros((1, 3)))
    atom.info.update(config_type="IsolatedAtom", spin=UNPAIRED[symbol], energy_hartree=energy)
    return atom


if __name__ == "__main__":
    main()
