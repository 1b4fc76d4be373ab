"""PubChemQCR: relaxation trajectories of molecules, gzipped pickles of plain objects in LMDBs.

A record is a molecule: under `pm3`, `hf`, `DFT_1st` and `DFT_2nd` the steps of its relaxations at
these levels, in Å, Hartree and Hartree/Bohr. Here every step is a record of its own, and the
molecule is its trajectory.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.pubchemqcr_index import Index, read_index
from mlip.data.sources.pubchemqcr_molecule import (
    FAULTS,
    PHASES,
    WHOLE,
    Stage,
    decode,
    numbers_of,
    structure_of,
)
from mlip.data.sources.source import EnergyReference, Source, decoding
from mlip.data.structure import Structure
from mlip.data.tally import Tally
from mlip.errors import MlipError


class PubChemQcrSource(Source):
    """The steps of one stage in a file; its index is made once, decoding every molecule.

    Steps that lack data, have mismatched lengths or numbers that are not finite are left out and
    counted in `notes`. Energies are total energies.

    Args:
        path: the LMDB; its keys are the molecules' PubChem CIDs, nine digits.
        stage: the relaxations to read.
        keys: a label whose key is null is not read; their names mean nothing here.

    Raises:
        MlipError: if the file cannot be read, its keys are no CIDs, or no step is usable.
    """

    def __init__(self, path: Path, *, stage: Stage = "1st", keys: LabelKeys | None = None) -> None:
        if stage not in get_args(Stage):
            raise MlipError(f"stage={stage}: choose one of {', '.join(get_args(Stage))}.")
        self.path = path
        self.stage = stage
        keys = keys or LabelKeys()
        self._dropped: dict[str, Any] = {
            label: None for label in ("energy", "forces") if getattr(keys, label) is None
        }
        if not len(self):
            notes = "; ".join(self.notes)
            raise MlipError(f"{path} has no usable step of stage {stage}{notes and f': {notes}'}.")

    @cached_property
    def _file(self) -> LmdbFile:
        return LmdbFile(self.path)

    @cached_property
    def _index(self) -> Index:
        return read_index(self.path, self.stage)

    @property
    def _steps(self) -> np.ndarray:
        """The usable steps, then the others."""
        return self._index.steps

    @cached_property
    def _length(self) -> int:
        fault = self._steps["fault"]
        return bisect_left(range(len(fault)), 1, key=lambda index: int(fault[index]))

    @cached_property
    def _last_molecule(self) -> list[tuple[int, dict[str, Any]]]:
        """The molecule decoded last, so that steps in order cost one decoding; at most one."""
        return []

    def __len__(self) -> int:
        return self._length

    def _reading_in_order(self) -> AbstractContextManager[None]:
        return self._file.reading_in_order()

    @property
    def energy_reference(self) -> EnergyReference:
        return "total"

    def tally(self) -> Tally | None:
        sums = self._index.tally
        return replace(sums, energies=0) if "energy" in self._dropped else sums

    @property
    def notes(self) -> tuple[str, ...]:
        left_out = self._steps["fault"][self._length :]
        counts = np.bincount(left_out, minlength=len(FAULTS))
        return tuple(
            f"{self.path.name}: left out {count} steps of stage {self.stage} that {FAULTS[fault]}"
            for fault, count in enumerate(counts)
            if count
        )

    def identifier(self, index: int) -> str:
        step = self._steps[index]
        name = f"{self.path.name}#{step['cid']:09d}"
        return name if step["step"] == WHOLE else f"{name}/{PHASES[step['phase']]}/{step['step']}"

    def trajectory(self, index: int) -> str:
        return f"{self._steps[index]['cid']:09d}"

    def num_atoms(self, index: int) -> int:
        return int(self._steps[index]["atoms"])

    def atomic_numbers(self, index: int) -> np.ndarray:
        entry, molecule = self._find(index)
        with decoding(self.identifier(index)):
            return numbers_of(_step_of(molecule, entry))

    def sizes(self) -> np.ndarray:
        return self._steps["atoms"][: self._length].astype(np.int32)

    def __getitem__(self, index: int) -> Structure:
        entry, molecule = self._find(index)
        name = self.identifier(index)
        with decoding(name):
            return replace(structure_of(_step_of(molecule, entry), name), **self._dropped)

    def _find(self, index: int) -> tuple[np.void, dict[str, Any]]:
        """The entry of a step, and its molecule."""
        if not 0 <= index < self._length:
            raise IndexError(f"step {index} of {self._length}")
        entry = self._steps[index]
        return entry, self._molecule(int(entry["cid"]))

    def _molecule(self, cid: int) -> dict[str, Any]:
        recent = self._last_molecule[-1:]
        if not recent or recent[0][0] != cid:
            key = b"%09d" % cid
            recent = [(cid, decode(self._file.get(key), f"{self.path.name}#{key.decode()}"))]
            self._last_molecule[:] = recent
        return recent[0][1]


def _step_of(molecule: dict[str, Any], entry: np.void) -> Any:
    return molecule[PHASES[entry["phase"]]][entry["step"]]
