"""The typed configs of the verbs of `mlip data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mlip.cli.schema_command import (
    FilesByName,
    RunFolderConfig,
    refuse_parts_of_a_data_set,
    require_data_or_dataset,
)
from mlip.data.dataset_settings import DatasetSettings, SplitUnit
from mlip.data.sources.registry import SourceSettings
from mlip.settings import Settings

DATA_HELP = (
    "file or folder of labelled structures; FILE@start:stop takes a slice of its frames, "
    "FILE@INDEX.npy those with the numbers in a file"
)


class SourceConfig(SourceSettings):
    """What every command that reads labelled structures takes."""

    on_bad_record: Literal["raise", "skip"] = Field(
        "raise", description="a record that cannot be used: an error, or left out and counted"
    )


class DataInspectConfig(RunFolderConfig, SourceSettings):
    """Config of `mlip data inspect`."""

    data: FilesByName = Field(None, description="labelled files by name, FILE or FILE@start:stop")
    dataset: DatasetSettings | None = Field(None, description="a data set, instead of `data`")
    sample: int = Field(10_000, ge=10, description="most frames that are read of each file")
    cutoff: float = Field(5.0, gt=0, description="atoms should have neighbours within it, Å")

    @model_validator(mode="before")
    @classmethod
    def _no_parts_of_a_data_set(cls, values: Any) -> Any:
        return refuse_parts_of_a_data_set(cls, values)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        require_data_or_dataset(self, "inspect")
        return self


class DataPrepareConfig(SourceConfig):
    """Config of `mlip data prepare`."""

    data: str = Field(description=DATA_HELP)
    output: Path = Field(description="file to make, NAME.lmdb")
    cutoff: float | None = Field(
        5.0, gt=0, description="count the neighbours within this distance, Å; null: do not"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that read; null: one for each processor core"
    )


class DataConvertConfig(SourceConfig):
    """Config of `mlip data convert`."""

    data: str = Field(description=DATA_HELP)
    output: Path = Field(
        description="file to make; .xyz, .extxyz, .aselmdb, .db, or .lmdb for prepared data"
    )


class DataSplitConfig(SourceConfig):
    """Config of `mlip data split`."""

    data: str = Field(description=DATA_HELP)
    output: Path = Field(description="folder of the subsets")
    by: SplitUnit = Field(
        "frame",
        description="what stays together: duplicates of a frame (frame), a trajectory, or frames "
        "of the same atoms (composition)",
    )
    fractions: dict[str, float] = Field(description="share of each subset by name; 1 in all")
    seed: int = Field(0, ge=0, description="seed of the draw")
    files: Literal[".xyz", ".extxyz", ".aselmdb", ".db", ".lmdb"] | None = Field(
        None, description="also write each subset as a file of this format; null: record numbers"
    )


class DataDownloadConfig(Settings):
    """Config of `mlip data download`."""

    name: str | None = Field(None, description="data set; null: list those there are")
    files: list[str] | None = Field(
        None, description="patterns of the names of files; null: the usual ones"
    )
    output: Path | None = Field(None, description="folder; null: one named like the data set")
    addresses: Path | None = Field(
        None, description="list of addresses of your own, like mlip/data/addresses.yaml"
    )
