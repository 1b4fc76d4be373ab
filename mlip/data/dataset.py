"""Data-set options, and loading a data set: training, validation and named test subsets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mlip.data.e0 import E0Table, make_e0
from mlip.data.preflight import PreflightSettings
from mlip.data.sources.extxyz import read_extxyz
from mlip.data.sources.labels import ISOLATED_ATOM, LabelKeys
from mlip.data.splits import split, without_duplicates
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.settings import Settings

DEFAULT_VALID_FRACTION = 0.1
FILE_HELP = "file, relative to root; file.xyz@start:stop takes a slice of its frames"


class SubsetSettings(Settings):
    """One named test subset."""

    file: str = Field(description=FILE_HELP)
    exclude_duplicates_of_train: bool = Field(
        False, description="leave out frames that also stand in the training or validation data"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_file(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class DatasetSettings(Settings):
    """Where the data are, how they are labelled and how they are split."""

    name: str = Field(description="name of the data set, for reports")
    root: Path = Field(Path(), description="folder of the files")
    train: str = Field(description=f"training {FILE_HELP}")
    valid: str | None = Field(None, description=f"validation {FILE_HELP}; null to split train")
    valid_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="fraction of the training file held out for validation; "
        f"{DEFAULT_VALID_FRACTION} if neither valid nor valid_count is given",
    )
    valid_count: int | None = Field(
        None, gt=0, description="number of training frames held out for validation"
    )
    split_seed: int = Field(0, ge=0, description="seed of the split into training and validation")
    tests: dict[str, SubsetSettings] = Field(
        default_factory=dict, description="test subsets by name"
    )
    isolated_atoms: str | None = Field(
        None, description=f"{FILE_HELP}: single atoms, for e0=isolated"
    )
    isolated_energy_key: str | None = Field(
        None, description="key of the energy in isolated_atoms; null: that of the data"
    )
    e0: Literal["isolated", "least_squares"] | dict[str, float] = Field(
        "isolated",
        description="energy of each element's isolated atom: from single-atom frames, by least "
        "squares over the training data, or eV by element symbol",
    )
    keys: LabelKeys = Field(default_factory=LabelKeys, description="names of the labels")
    preflight: PreflightSettings = Field(
        default_factory=PreflightSettings, description="limits of the check before training"
    )

    @model_validator(mode="after")
    def _one_validation_set(self) -> DatasetSettings:
        given = [self.valid, self.valid_fraction, self.valid_count]
        if sum(value is not None for value in given) > 1:
            raise ValueError(
                "give only one of valid, valid_fraction and valid_count; set the others to null"
            )
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A loaded data set.

    Attributes:
        settings: what it was loaded from.
        train: training structures.
        valid: validation structures.
        tests: test structures by subset name.
        elements: atomic numbers in the training structures, sorted.
        e0: isolated-atom energies.
        fingerprint: SHA-256 of the training structures and labels.
        notes: what was left out while loading, in words.
    """

    settings: DatasetSettings
    train: list[Structure]
    valid: list[Structure]
    tests: dict[str, list[Structure]]
    elements: tuple[int, ...]
    e0: E0Table
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def subsets(self) -> dict[str, list[Structure]]:
        """All structures: `train`, `valid` and the test subsets by name."""
        return {"train": self.train, "valid": self.valid, **self.tests}

    def __repr__(self) -> str:
        from ase.data import chemical_symbols

        sizes = ", ".join(f"{name} {len(found)}" for name, found in self.subsets.items())
        symbols = " ".join(chemical_symbols[number] for number in self.elements)
        return f"Dataset({self.settings.name}: {sizes} structures of {symbols})"


def load_dataset(settings: DatasetSettings) -> Dataset:
    """Read, split and label a data set.

    Raises:
        MlipError: see `read_extxyz`; also for an empty subset or missing E0.
    """
    files = _Files(settings)
    everything = files.read(settings.train)
    isolated = [s for s in everything if _is_isolated_atom(s)]
    known = files.molecules(settings.train, "train")
    if settings.valid is not None:
        train, valid = known, files.molecules(settings.valid, "valid")
        known = train + valid
    else:
        fraction = settings.valid_fraction or DEFAULT_VALID_FRACTION
        count = settings.valid_count or max(1, round(fraction * len(known)))
        train, valid = split(known, count, settings.split_seed)
    if settings.isolated_atoms is not None:
        isolated = files.read_isolated(settings.isolated_atoms)
    tests, notes = _load_tests(settings, files, known)
    return Dataset(
        settings=settings,
        train=train,
        valid=valid,
        tests=tests,
        elements=tuple(sorted({int(number) for s in train for number in s.numbers})),
        e0=make_e0(settings.e0, train, isolated),
        fingerprint=fingerprint(train),
        notes=notes,
    )


def read_frames(specification: str, keys: LabelKeys, option: str) -> list[Structure]:
    """The frames of `file.xyz`, or of its slice `file.xyz@start:stop`.

    Args:
        specification: the file or slice.
        keys: names of the labels.
        option: as in `read_extxyz`.

    Raises:
        MlipError: see `read_extxyz`.
    """
    name, window = _parse_slice(specification)
    return read_extxyz(Path(name).expanduser(), keys=keys, option=option)[window]


def fingerprint(structures: Sequence[Structure]) -> str:
    """SHA-256 over elements, coordinates, cells and labels, in hexadecimal."""
    digest = hashlib.sha256()
    for s in structures:
        for array in (s.numbers, s.positions, s.cell, s.pbc, s.forces, s.stress):
            digest.update(b"-" if array is None else array.tobytes())
        digest.update(repr(s.energy).encode())
    return digest.hexdigest()


def _load_tests(
    settings: DatasetSettings, files: _Files, known: Sequence[Structure]
) -> tuple[dict[str, list[Structure]], tuple[str, ...]]:
    tests: dict[str, list[Structure]] = {}
    notes = []
    for name, subset in settings.tests.items():
        if name in ("train", "valid"):
            raise MlipError(f"dataset.tests.{name}: choose another name for this test subset.")
        found = files.molecules(subset.file, f"tests.{name}")
        if subset.exclude_duplicates_of_train:
            kept = without_duplicates(found, known)
            if len(kept) < len(found):
                notes.append(
                    f"{name}: left out {len(found) - len(kept)} of {len(found)} frames, which "
                    "also stand in the training or validation data"
                )
            found = kept
        if not found:
            raise MlipError(f"dataset.tests.{name}: no frame of {subset.file} is left.")
        tests[name] = found
    return tests, tuple(notes)


def _is_isolated_atom(structure: Structure) -> bool:
    return len(structure) == 1 and structure.group == ISOLATED_ATOM


class _Files:
    """Reads each file once, however many slices of it are asked for."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._root = settings.root.expanduser()
        self._keys = settings.keys
        self._isolated_energy_key = settings.isolated_energy_key or settings.keys.energy
        self._read: dict[tuple[Path, LabelKeys], list[Structure]] = {}

    def read(
        self,
        specification: str,
        keys: LabelKeys | None = None,
        option: str = "dataset.keys.{label}",
    ) -> list[Structure]:
        """The frames of `file` or `file@start:stop`; the rest as in `read_extxyz`."""
        name, window = _parse_slice(specification)
        source = (self._root / Path(name).expanduser(), keys or self._keys)
        if source not in self._read:
            self._read[source] = read_extxyz(source[0], keys=source[1], option=option)
        return self._read[source][window]

    def molecules(self, specification: str, option: str) -> list[Structure]:
        """The frames without the isolated atoms; at least one."""
        found = [s for s in self.read(specification) if not _is_isolated_atom(s)]
        if not found:
            raise MlipError(f"dataset.{option}: {specification} holds no frame to use.")
        return found

    def read_isolated(self, specification: str) -> list[Structure]:
        """Single atoms with their energies."""
        keys = LabelKeys(energy=self._isolated_energy_key, forces=None, stress=None)
        found = self.read(specification, keys, "dataset.isolated_energy_key")
        for structure in found:
            if len(structure) != 1:
                raise MlipError(
                    f"{structure.identifier}: {len(structure)} atoms where an isolated atom was "
                    "expected; dataset.isolated_atoms holds single-atom frames only."
                )
        return found


def _parse_slice(specification: str) -> tuple[str, slice]:
    name, at, window = specification.rpartition("@")
    if not at:
        return specification, slice(None)
    match = re.fullmatch(r"(-?\d*):(-?\d*)", window)
    if match is None:
        raise MlipError(f"{specification}: expected file.xyz@start:stop with whole numbers.")
    return name, slice(*(int(end) if end else None for end in match.groups()))
