"""E0: the energy of each element's isolated atom, subtracted before training."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlip.data.sources.source import REFERENCE, EnergyReference
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.data.tally import Tally

AGREEMENT = 1e-6  # eV, between two isolated-atom frames of one element
LARGEST = 1e6  # eV, of an atom; a fit of linear references invents larger ones for absent elements


@dataclass(frozen=True)
class E0Table:
    """Isolated-atom energies with where they come from and how well they fit the training data.

    Attributes:
        values: energy by atomic number, eV.
        origin: how they were obtained, in words.
        mean: mean of (E − ΣE0)/n over the training structures, eV/atom; None without energies.
        residual: root mean square of (E − ΣE0)/n about that mean, eV/atom.
    """

    values: dict[int, float]
    origin: str
    mean: float | None
    residual: float | None

    def sum(self, structure: Structure) -> float:
        """ΣE0 over the atoms of a structure, eV."""
        return e0_sum(structure, self.values)

    def table(self) -> str:
        """The table for printing."""
        from ase.data import chemical_symbols

        lines = [f"E0 from {self.origin}"]
        lines += [
            f"  {chemical_symbols[number]:<2} {value:16.6f} eV"
            for number, value in sorted(self.values.items())
        ]
        if self.mean is not None:
            lines.append(
                f"  E - sum(E0): mean {self.mean:.4f} eV/atom, "
                f"spread (RMS about the mean) {self.residual:.4f} eV/atom"
            )
        return "\n".join(lines)


def e0_sum(structure: Structure, values: Mapping[int, float]) -> float:
    """ΣE0 over the atoms of a structure, eV."""
    return float(sum(values[int(number)] for number in structure.numbers))


def interaction_energies(
    structures: Sequence[Structure], values: Mapping[int, float]
) -> np.ndarray:
    """(E − ΣE0)/n of each structure with an energy, eV/atom."""
    return np.array(
        [(s.energy - e0_sum(s, values)) / len(s) for s in structures if s.energy is not None]
    )


def make_e0(
    choice: str | Mapping[str, float],
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    *,
    elements: Collection[int] = (),
    sums: Tally | None = None,
) -> E0Table:
    """Build the table for the elements of the training structures, and others that are given.

    Args:
        choice: "isolated", "least_squares", a file of linear references (`FILE.npz` with an array
            `coeff`, in eV, indexed by the atomic number, as published with OC20 and OC22), or eV
            by element symbol.
        train: training structures.
        isolated: single-atom frames with energies, used by "isolated".
        elements: atomic numbers that the data have besides those of `train`, a sample of them.
        sums: over all of the data, used by "least_squares"; without them `train` is fitted.

    Raises:
        MlipError: if an element's energy is missing, contradictory, or cannot be fitted.
    """
    fitted = sums.fit_e0() if sums is not None and choice == "least_squares" else None
    if fitted is not None:
        return fitted
    present = {int(number) for s in train for number in s.numbers}
    unseen, elements = sorted(set(elements) - present), sorted(present.union(elements))
    if choice == "isolated":
        values, origin = _from_isolated(elements, isolated, train)
    elif choice == "least_squares":
        if unseen:
            raise MlipError(
                f"the training data contain {_symbols(unseen)}, but no frame of the sample that E0 "
                "is fitted to does; fit all frames with mlip data prepare, or give the energies of "
                "all elements with dataset.e0 or dataset.isolated_atoms."
            )
        values, origin = _from_least_squares(elements, train)
    elif isinstance(choice, str):
        values, origin = _from_file(elements, Path(choice).expanduser())
    else:
        values, origin = _from_mapping(elements, choice)
    deviations = interaction_energies(train, values)
    if not len(deviations):
        return E0Table(values, origin, None, None)
    return E0Table(values, origin, float(np.mean(deviations)), float(np.std(deviations)))


def require_belonging(
    choice: str | Mapping[str, float], values: Mapping[int, float], reference: EnergyReference
) -> None:
    """Refuse E0 that do not belong to energies that count from another zero.

    Args:
        choice: as for `make_e0`; a file that does not say what its energies count from is taken to
            hold total ones, as those published do.
        values: the energies that it gave, eV.
        reference: what the training energies count from.

    Raises:
        MlipError: for energies of isolated atoms beside referenced or atomisation energies, or a
            file that was fitted to energies of another kind.
    """
    if reference == "unstated" or choice == "least_squares":
        return
    mend = "set dataset.e0=least_squares, or to 0 for each element"
    if isinstance(choice, str) and choice != "isolated":
        with np.load(choice) as arrays:
            fitted = str(arrays[REFERENCE]) if REFERENCE in arrays else "total"
        if fitted not in ("unstated", reference):
            raise MlipError(
                f"dataset.e0={choice} belongs to {fitted} energies, but the training energies are "
                f"{reference} ones; {mend}."
            )
        return
    # What the user gives for referenced energies may come from a fit.
    belongs = reference == "total" or (reference == "referenced" and choice != "isolated")
    if not belongs and any(values.values()):
        raise MlipError(
            f"the training energies are {reference} ones, which do not contain the energies of "
            f"isolated atoms; {mend}."
        )


def _symbols(numbers: Sequence[int]) -> str:
    from ase.data import chemical_symbols

    return " ".join(chemical_symbols[number] for number in numbers)


def _from_isolated(
    elements: Sequence[int], isolated: Sequence[Structure], train: Sequence[Structure]
) -> tuple[dict[int, float], str]:
    values: dict[int, float] = {}
    for atom in isolated:
        number = int(atom.numbers[0])
        if atom.energy is None:
            raise MlipError(
                f"{atom.identifier}: an isolated atom without an energy; name the key with "
                "dataset.keys.energy or dataset.isolated_energy_key."
            )
        if abs(values.setdefault(number, atom.energy) - atom.energy) > AGREEMENT:
            raise MlipError(
                f"{atom.identifier}: a second isolated {_symbols([number])} atom with "
                f"{atom.energy} eV where the first has {values[number]} eV; keep one."
            )
    missing = [number for number in elements if number not in values]
    if missing:
        have = _symbols(sorted(values)) or "none"
        numbers = ", ".join(f"{symbol}: …" for symbol in _symbols(elements).split())
        unmarked = [s.identifier for s in train if len(s) == 1 and int(s.numbers[0]) in missing]
        mark = (
            "add a single-atom frame with config_type=IsolatedAtom to the training file"
            if not unmarked
            else "write config_type=IsolatedAtom into the comment line of the single atoms in the "
            f"training file (such as {unmarked[0]}), which otherwise are frames like all others"
        )
        raise MlipError(
            f"no isolated-atom energy for {_symbols(missing)} (found: {have}); {mark}, or set "
            f"dataset.isolated_atoms=FILE, or give the energies in eV, 'dataset.e0={{{numbers}}}', "
            "or use dataset.e0=least_squares."
        )
    files = sorted({atom.identifier.partition("#")[0] for atom in isolated})
    return dict(sorted(values.items())), f"isolated atoms in {' '.join(files)}"


def _from_least_squares(
    elements: Sequence[int], train: Sequence[Structure]
) -> tuple[dict[int, float], str]:
    """Minimise Σ_s (E_s − Σ_z n_sz E0_z)² / n_s²; the smallest solution if not unique."""
    labelled = [s for s in train if s.energy is not None]
    if not labelled:
        raise MlipError(
            "E0 by least squares needs energies, and no training frame has one; "
            "give dataset.e0 as numbers."
        )
    counts = np.array([[np.sum(s.numbers == z) for z in elements] for s in labelled], float)
    sizes = counts.sum(axis=1)
    energies = np.array([s.energy for s in labelled], float)
    solution, _, rank, _ = np.linalg.lstsq(counts / sizes[:, None], energies / sizes)
    over = f"{len(labelled)} training structures"
    origin = least_squares_origin(over, int(rank), len(elements))
    return dict(zip(elements, solution.tolist(), strict=True)), origin


def least_squares_origin(over: str, rank: int, count: int) -> str:
    """Where a fitted table comes from, and whether the data fix all of its values.

    Args:
        over: what was fitted.
        rank: of the linear equations.
        count: of the values.
    """
    origin = f"least squares over {over}"
    if rank < count:
        origin += (
            f", which fix only {rank} of {count} values (too few compositions): "
            "not meaningful for other compositions"
        )
    return origin


def _from_file(elements: Sequence[int], path: Path) -> tuple[dict[int, float], str]:
    if path.suffix != ".npz" or not path.is_file():
        raise MlipError(
            f"dataset.e0={path}: expected isolated, least_squares, energies by element symbol, or "
            "an existing file of linear references ending in .npz."
        )
    try:
        with np.load(path) as arrays:
            energies = np.asarray(arrays["coeff"], np.float64).ravel()
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise MlipError(
            f"dataset.e0={path}: no array 'coeff' with an energy for each atomic number ({error})."
        ) from None
    missing = [z for z in elements if z >= len(energies) or not 0 < abs(energies[z]) < LARGEST]
    if missing:
        raise MlipError(f"dataset.e0={path}: no meaningful energy for {_symbols(missing)}.")
    # Those of other elements serve frames that the training sample of a stream does not show.
    sound = (np.abs(energies) < LARGEST) & (energies != 0)
    sound[:1] = False  # there is no element 0
    known = sorted({*elements, *np.flatnonzero(sound).tolist()})
    return {z: float(energies[z]) for z in known}, f"linear references in {path.name}"


def _from_mapping(
    elements: Sequence[int], energies: Mapping[str, float]
) -> tuple[dict[int, float], str]:
    from ase.data import atomic_numbers

    unknown = [symbol for symbol in energies if symbol not in atomic_numbers]
    if unknown:
        raise MlipError(f"dataset.e0: {unknown[0]!r} is not an element symbol.")
    values = {atomic_numbers[symbol]: float(energy) for symbol, energy in energies.items()}
    missing = [number for number in elements if number not in values]
    if missing:
        raise MlipError(
            f"dataset.e0 has no energy for {_symbols(missing)}, which the training data contain; "
            "give one for each of their elements."
        )
    return dict(sorted(values.items())), "the configuration"
