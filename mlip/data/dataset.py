"""Loading a data set: training, validation and named test subsets, in memory or streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip.data.collate import species_index
from mlip.data.dataset_settings import STREAM_ABOVE, DatasetSettings, SplitUnit
from mlip.data.e0 import E0Table, make_e0, require_belonging
from mlip.data.files import Files
from mlip.data.frames import Frames, Part, Read
from mlip.data.neighbors import without_collisions
from mlip.data.sources.concatenation import require_one_reference
from mlip.data.sources.labels import OPTION, LabelKeys
from mlip.data.sources.registry import SourceSettings
from mlip.data.sources.source import EnergyReference, Source, quoted
from mlip.data.splits import composition, require_trajectories, split, without_duplicates
from mlip.data.stream_elements import known_elements, known_sums
from mlip.data.stream_split import split_parts
from mlip.data.structure import Structure, is_isolated_atom, passing
from mlip.errors import MlipError

SAMPLE = 4096  # frames of a stream that stand for all of them before training

Subset = list[Structure] | Frames


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A loaded data set.

    Attributes:
        settings: what it was loaded from.
        train: training structures.
        valid: validation structures.
        tests: test structures by subset name.
        samples: of streamed subsets, structures drawn at random (`sample`).
        elements: atomic numbers in the training structures, sorted; of a stream those in its
            sample, those that its files name, and those with an E0.
        e0: isolated-atom energies.
        energy_reference: what the training energies count from; `unstated` for a mixture.
        fingerprint: SHA-256 of the training structures and labels; of a stream, of its sample and
            size.
        notes: what was left out while loading, in words.
    """

    settings: DatasetSettings
    train: Subset
    valid: Subset
    tests: dict[str, Subset]
    samples: dict[str, list[Structure]]
    elements: tuple[int, ...]
    e0: E0Table
    energy_reference: EnergyReference
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def subsets(self) -> dict[str, Subset]:
        """All structures: `train`, `valid` and the test subsets by name."""
        return {"train": self.train, "valid": self.valid, **self.tests}

    def sample(self, name: str) -> list[Structure]:
        """The structures that stand for a subset before training: all, or a sample of a stream."""
        subset = self.subsets[name]
        return self.samples[name] if isinstance(subset, Frames) else subset

    def __repr__(self) -> str:
        from ase.data import chemical_symbols

        sizes = ", ".join(f"{name} {len(found)}" for name, found in self.subsets.items())
        symbols = " ".join(chemical_symbols[number] for number in self.elements)
        return f"Dataset({self.settings.name}: {sizes} structures of {symbols})"


def load_dataset(settings: DatasetSettings) -> Dataset:
    """Open or read, split and label a data set.

    Raises:
        MlipError: for files that cannot be read; also for an empty subset or missing E0.
    """
    loader = _Loader(settings)
    train, valid = loader.train_and_valid()
    tests = loader.tests(train, valid)
    isolated = loader.isolated_atoms()
    samples = {
        name: loader.sample(name, subset)
        for name, subset in {"train": train, "valid": valid, **tests}.items()
        if isinstance(subset, Frames)
    }
    looked_at = samples["train"] if isinstance(train, Frames) else train
    elements = {int(number) for s in looked_at for number in s.numbers}
    sums = None
    if isinstance(train, Frames):  # some elements may be too rare for the sample
        elements |= known_elements(train.parts)
        sums = known_sums(train)
    e0 = make_e0(settings.e0_choice, looked_at, isolated, elements=elements, sums=sums)
    require_belonging(settings.e0_choice, e0.values, loader.energy_reference)
    if isinstance(train, Frames):
        elements |= set(e0.values)
    for name in samples:
        samples[name] = loader.with_elements(name, samples[name], elements)
    if isinstance(valid, list):
        valid = loader.with_elements("valid", valid, elements)
    for name, subset in tests.items():
        if isinstance(subset, list):
            tests[name] = loader.with_elements(name, subset, elements)
    return Dataset(
        settings=settings,
        train=train,
        valid=valid,
        tests=tests,
        samples=samples,
        elements=tuple(sorted(elements)),
        e0=e0,
        energy_reference=loader.energy_reference,
        fingerprint=fingerprint(train, looked_at),
        notes=(*loader.files.notes, *loader.notes),
    )


def read_frames(
    specification: str, settings: SourceSettings, *, skip_bad: bool = False
) -> tuple[Subset, list[str]]:
    """The frames of a file, or of its slice `file@start:stop`; a stream if they are many.

    Args:
        specification: the file or slice.
        settings: how it is read.
        skip_bad: leave out records that cannot be used; otherwise they are errors.

    Returns:
        the frames, and what was left out, in words.

    Raises:
        BadRecordError: for a record that cannot be used, unless these are left out.
        MlipError: for a file that cannot be read or has no frame to use, or for energies that
            cannot be converted.
    """
    files = Files(Path(), settings, skip_bad=skip_bad, prefix="")
    part = files.open(specification)
    if len(part.records) > STREAM_ABOVE:
        return Frames([part], skip_bad=skip_bad, option="on_bad_record"), files.notes
    read = files.read(part)
    notes = [*files.notes, *_fault_notes(specification, read.faults, len(part.records))]
    if not read.structures:
        raise MlipError(f"{'; '.join([f'{specification} holds no frame to use', *notes])}.")
    return read.structures, notes


def read_isolated_atoms(settings: DatasetSettings, files: Files) -> list[Structure]:
    """The single atoms in the file that the settings name for them, if they do.

    Raises:
        MlipError: if it cannot be read or holds something else.
    """
    if settings.isolated_atoms is None:
        return []
    energy = settings.isolated_energy_key or settings.keys.energy
    how = SourceSettings(keys=LabelKeys(energy=energy, forces=None, stress=None))
    option = "dataset.isolated_energy_key"
    found = files.read(files.open(settings.isolated_atoms, settings=how, option=option)).structures
    for structure in found:
        if len(structure) != 1:
            raise MlipError(
                f"{structure.identifier}: {len(structure)} atoms where an isolated atom was "
                "expected; dataset.isolated_atoms holds single-atom frames only."
            )
    return found


def fingerprint(subset: Subset, sample: Sequence[Structure]) -> str:
    """SHA-256 over elements, coordinates, cells and labels, in hexadecimal.

    Args:
        subset: of a data set.
        sample: the structures that stand for it; a stream is known by these and its size.
    """
    digest = hashlib.sha256()
    for s in sample:
        for array in (s.numbers, s.positions, s.cell, s.pbc, s.forces, s.stress):
            digest.update(b"-" if array is None else array.tobytes())
        digest.update(repr(s.energy).encode())
    if isinstance(subset, Frames):
        digest.update(repr(subset).encode())
    return digest.hexdigest()


class _Loader:
    """Loads one subset after the other, and keeps what there is to say about them."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._skip_bad = settings.on_bad_record == "skip"
        self.files = Files(settings.root, settings.for_source(), skip_bad=self._skip_bad)
        self._sources: list[Source] = []
        self._isolated: list[Structure] = []
        self.notes: list[str] = []

    @property
    def energy_reference(self) -> EnergyReference:
        """What the training energies count from."""
        found = {source.energy_reference for source in self._sources[: len(self._settings.train)]}
        return found.pop() if len(found) == 1 else "unstated"

    def train_and_valid(self) -> tuple[Subset, Subset]:
        """Training and validation structures."""
        settings = self._settings
        parts = [
            self._open(part.file, settings=part.source, weight=part.weight)
            for part in settings.train.values()
        ]
        file, total = " ".join(settings.train), sum(len(part.records) for part in parts)
        streams = settings.streams(total) or settings.is_weighted
        if streams:
            self._find_isolated(parts)
        if settings.valid is not None:
            self._note_unsplit(settings.valid)
            train = self._frames(parts) if streams else self._molecules(parts, file, "train")[0]
            return train, self._subset(settings.valid, "valid")
        if streams:
            return self._split_stream(parts, settings.valid_share(total))
        known, groups = self._molecules(parts, file, "train", settings.split_by)
        count = settings.valid_share(len(known))
        train, valid = split(known, count, settings.split_seed, groups)
        return train, valid

    def tests(self, train: Subset, valid: Subset) -> dict[str, Subset]:
        """The test subsets by name."""
        found: dict[str, Subset] = {}
        for name, wanted in self._settings.tests.items():
            if name in ("train", "valid"):
                raise MlipError(f"dataset.tests.{name}: choose another name for this test subset.")
            subset = self._subset(wanted.file, f"tests.{name}", wanted.source)
            if wanted.exclude_duplicates_of_train:
                subset = self._without_duplicates(name, subset, train, valid)
            if not len(subset):
                raise MlipError(f"dataset.tests.{name}: no frame of {wanted.file} is left.")
            found[name] = subset
        return found

    def isolated_atoms(self) -> list[Structure]:
        """Single atoms with their energies."""
        if self._settings.isolated_atoms is None:
            return self._isolated
        return read_isolated_atoms(self._settings, self.files)

    def sample(self, name: str, subset: Frames) -> list[Structure]:
        """The structures that stand for a stream before training."""
        structures = self._usable(name, subset.sample(SAMPLE), min(SAMPLE, len(subset)))
        if not structures:
            raise MlipError(f"dataset.{name}: no frame of a sample of this subset can be used.")
        if len(structures) < len(subset):
            self.notes.append(
                f"{name}: streamed; statistics and this check are those of a sample of "
                f"{len(structures)} of {len(subset)} structures"
            )
        return structures

    def with_elements(
        self, name: str, structures: list[Structure], elements: Collection[int]
    ) -> list[Structure]:
        """The structures of a subset that a model of these elements can be used for.

        Unless records are to be left out, these are all, and the check before training refuses.
        """
        if not self._skip_bad:
            return structures
        known = sorted(elements)
        kept, refused = passing(structures, lambda structure: species_index(structure, known))
        faults = [str(error) for _, error in refused]
        self.notes += _fault_notes(name, faults, len(structures))
        if not kept:
            raise MlipError(
                f"dataset.{name}: all frames have elements that the training data lack, beginning "
                f"with {quoted(faults)}."
            )
        return [structures[index] for index in kept]

    def _open(self, specification: str, **options: Any) -> Part:
        """A part whose energies count from the same zero as those of the others."""
        part = self.files.open(specification, **options)
        self._sources.append(part.source)
        if not self._settings.mix_energies:
            require_one_reference(self._sources)
        return part

    def _subset(
        self, specification: str, option: str, settings: SourceSettings | None = None
    ) -> Subset:
        own = f"dataset.{option}.source.keys.{{label}}"  # validation data are read as training data
        part = self._open(
            specification, settings=settings, option=OPTION if option == "valid" else own
        )
        if self._settings.streams(len(part.records)):
            return self._frames([part])
        return self._molecules([part], specification, option)[0]

    def _frames(self, parts: Sequence[Part]) -> Frames:
        return Frames(parts, skip_bad=self._skip_bad)

    def _molecules(
        self, parts: Sequence[Part], file: str, option: str, unit: SplitUnit = "frame"
    ) -> tuple[list[Structure], list[str] | None]:
        """The frames without the isolated atoms, at least one, and what must not be split."""
        structures: list[Structure] = []
        groups: list[str] = []
        for part in parts:
            if unit == "trajectory":
                require_trajectories(part.source, part.records, "dataset.split_by")
            read = self.files.read(part)
            self.notes += _fault_notes(option, read.faults, len(part.records))
            for record, structure in zip(read.records, read.structures, strict=True):
                if is_isolated_atom(structure):
                    if option == "train":
                        self._isolated.append(structure)
                    continue
                structures.append(structure)
                if unit == "trajectory":
                    groups.append(part.source.trajectory(record))
                elif unit == "composition":
                    groups.append(composition(structure.numbers))
        if not structures:
            raise MlipError(f"dataset.{option}: {file} holds no frame to use.")
        return structures, groups or None

    def _split_stream(self, parts: Sequence[Part], count: int) -> tuple[Subset, Subset]:
        settings = self._settings
        train, held_out = split_parts(parts, count, settings.split_seed, settings.split_by)
        valid = self._frames(held_out)
        if settings.streams(len(valid)):
            return self._frames(train), valid
        structures = self._usable("valid", next(valid.chunks(len(valid))), len(valid))
        if not structures:
            raise MlipError("dataset.valid: none of the frames held out can be used.")
        return self._frames(train), structures

    def _usable(self, name: str, read: Read, records: int) -> list[Structure]:
        """The structures that can be used; the others are noted."""
        structures, faults = read.structures, list(read.faults)
        if self._skip_bad:
            kept, collisions = without_collisions(structures)
            structures = [structures[index] for index in kept]
            faults += collisions
        self.notes += _fault_notes(name, faults, records)
        return structures

    def _find_isolated(self, parts: Iterable[Part]) -> None:
        """Isolated atoms at the beginning of streamed training data."""
        if self._settings.e0 != "isolated" or self._settings.isolated_atoms is not None:
            return
        self._isolated += self.files.first_isolated_atoms(parts)

    def _without_duplicates(
        self, name: str, subset: Subset, train: Subset, valid: Subset
    ) -> list[Structure]:
        if any(isinstance(one, Frames) for one in (subset, train, valid)):
            raise MlipError(
                f"dataset.tests.{name}: duplicates cannot be looked for in data that are "
                "streamed; set exclude_duplicates_of_train=false, or dataset.stream=false if all "
                "fits into memory."
            )
        kept = without_duplicates(list(subset), [*train, *valid])
        if len(kept) < len(subset):
            self.notes.append(
                f"{name}: left out {len(subset) - len(kept)} of {len(subset)} frames, which "
                "also stand in the training or validation data"
            )
        return kept

    def _note_unsplit(self, valid: str) -> None:
        """Say which options change nothing; they may be those of a config group, and harmless."""
        fields = DatasetSettings.model_fields
        for name in ("split_by", "split_seed"):
            value = getattr(self._settings, name)
            if value != fields[name].default:
                self.notes.append(
                    f"dataset.{name}={value} splits nothing: the validation data are those of "
                    f"dataset.valid={valid}"
                )


def _fault_notes(name: str, faults: Sequence[str], records: int) -> list[str]:
    """What was left out, if anything."""
    if not faults:
        return []
    return [
        f"{name}: left out {len(faults)} of {records} records that cannot be used: {quoted(faults)}"
    ]
