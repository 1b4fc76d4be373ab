"""Data-set options: which files, how they are labelled, mixed, split and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_serializer, model_validator

from mlip.data.preflight import PreflightSettings
from mlip.data.sources.registry import SourceSettings
from mlip.settings import Settings

DEFAULT_VALID_FRACTION = 0.1
STREAM_ABOVE = 20_000  # frames of a subset
FILE_HELP = "file, relative to root; file.xyz@start:stop takes a slice of its frames"

LinearReferences = Annotated[str, StringConstraints(pattern=r"\.npz$")]
SplitUnit = Literal["frame", "trajectory", "composition"]


class FileSettings(Settings):
    """One of several files, named or with what is said of it."""

    file: str = Field(description=FILE_HELP)
    source: SourceSettings | None = Field(
        None,
        description="how it is read, such as {keys: {energy: E, forces: F}}; null: as the data "
        "set says",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"file": value}
        known = SourceSettings.model_fields
        how = [name for name in value if name in known] if isinstance(value, Mapping) else []
        if how:
            raise ValueError(
                f"how a single file is read stands under source, as in {{file: FILE, source: "
                f"{{{how[0]}: {value[how[0]]}}}}}"
            )
        return value


class PartSettings(FileSettings):
    """One of several files to train on."""

    weight: float = Field(
        1.0, gt=0, description="how often each of its frames occurs in an epoch, on average"
    )


class SubsetSettings(FileSettings):
    """One named test subset."""

    exclude_duplicates_of_train: bool = Field(
        False, description="leave out frames that also stand in the training or validation data"
    )


def _by_name(value: Any) -> Any:
    """A file, or a list of them, as a mapping; the file serves as the name."""
    files = [value] if isinstance(value, str) else value
    return {file: file for file in files} if isinstance(files, list | tuple) else files


def _named_files(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"found {value!r}; expected names for the test files, such as "
            f"'dataset.tests={{hot: {_first_word(value)}}}', quoted for the shell"
        )
    return value


def _not_one_number(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError(
            f"found {value!r}; expected an energy for each element, such as "
            "'dataset.e0={H: -13.6, O: -2041.8}', quoted for the shell"
        )
    return value


def _first_word(value: Any) -> str:
    words = [value] if isinstance(value, str) else value
    return str(words[0]) if isinstance(words, list | tuple) and words else "FILE"


class DatasetSettings(SourceSettings):
    """Where the data are, how they are labelled and how they are split."""

    name: str = Field(description="name of the data set, for reports")
    root: Path = Field(Path(), description="folder of the files")
    train: Annotated[dict[str, PartSettings], BeforeValidator(_by_name)] = Field(
        min_length=1,
        description=f"training {FILE_HELP}; several as a list, or by name with weights: "
        "{a: {file: a.xyz, weight: 2}, b: b.xyz}",
    )
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
    split_by: SplitUnit = Field(
        "frame",
        description="what the split must not tear apart: nothing but duplicates (frame), frames "
        "of one trajectory, or frames of the same atoms (composition)",
    )
    split_seed: int = Field(0, ge=0, description="seed of the split into training and validation")
    tests: Annotated[dict[str, SubsetSettings], BeforeValidator(_named_files)] = Field(
        default_factory=dict, description="test subsets by name"
    )
    isolated_atoms: str | None = Field(
        None, description=f"{FILE_HELP}: single atoms, for e0=isolated"
    )
    isolated_energy_key: str | None = Field(
        None, description="key of the energy in isolated_atoms; null: that of the data"
    )
    e0: Annotated[
        Literal["isolated", "least_squares"] | LinearReferences | dict[str, float],
        BeforeValidator(_not_one_number),
    ] = Field(
        "isolated",
        description="energy of each element's isolated atom: from single-atom frames, by least "
        "squares over the training data, eV by element symbol, or a file of linear references "
        "ending in .npz",
    )
    mix_energies: bool = Field(
        False, description="allow files whose energies count from different zeros"
    )
    mask_fixed: bool = Field(
        False,
        description="leave the forces of atoms held in place out of the loss and of the errors",
    )
    on_bad_record: Literal["raise", "skip"] = Field(
        "raise", description="a record that cannot be used: an error, or left out and counted"
    )
    stream: bool | None = Field(
        None,
        description="read frames when they are needed instead of holding them in memory; null: "
        f"above {STREAM_ABOVE} frames",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="processes that read ahead while streaming; null: half as many as "
        "processor cores, at most 4; 0: a thread of the main process",
    )
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

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> DatasetSettings:
        if self.e0 != "isolated":
            self.require_default(["isolated_atoms"], "only for e0=isolated")
        if self.isolated_atoms is None:
            self.require_default(["isolated_energy_key"], "only with isolated_atoms=FILE")
        if self.stream is False:
            self.require_default(["workers"], "only for data that are streamed: stream=false")
        return self

    @model_validator(mode="after")
    def _weights_need_a_stream(self) -> DatasetSettings:
        if self.stream is False and self.is_weighted:
            raise ValueError("weights of training files need a stream; leave stream out")
        return self

    @property
    def is_weighted(self) -> bool:
        """Whether some training frames occur more or less often than once per epoch."""
        return any(part.weight != 1 for part in self.train.values())

    @property
    def e0_choice(self) -> str | Mapping[str, float]:
        """The choice of E0, with the whole path of a file."""
        if isinstance(self.e0, str) and self.e0.endswith(".npz"):
            return str(self.root.expanduser() / Path(self.e0).expanduser())
        return self.e0

    def valid_share(self, total: int) -> int:
        """Number of the training frames to hold out for validation.

        Args:
            total: training frames.
        """
        fraction = self.valid_fraction or DEFAULT_VALID_FRACTION
        return self.valid_count or max(1, round(fraction * total))

    def streams(self, frames: int) -> bool:
        """Whether a subset of so many frames is streamed."""
        return frames > STREAM_ABOVE if self.stream is None else self.stream

    @field_serializer("train")
    def _shortest(self, train: Mapping[str, PartSettings]) -> Any:
        """As the user may write it: a file, a list of files, or the mapping."""
        plain = all(part == PartSettings(file=name) for name, part in train.items())
        if plain:
            return next(iter(train)) if len(train) == 1 else list(train)
        return {name: part.model_dump(mode="json") for name, part in train.items()}
