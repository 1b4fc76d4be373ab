"""The typed config of every verb, nesting the settings of the parts it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self, Union

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    create_model,
    model_validator,
)

from mlip.benchmark.grid import BenchmarkGrid
from mlip.cli.schema_command import CommandConfig, FilesByName, require_data_or_dataset
from mlip.cli.schema_data import (
    DataConvertConfig,
    DataDownloadConfig,
    DataInspectConfig,
    DataPrepareConfig,
    DataSplitConfig,
    SourceConfig,
)
from mlip.cli.suggest import model_inside
from mlip.data.dataset_settings import DatasetSettings
from mlip.models import MODEL_CONFIGS
from mlip.runtime import Precision
from mlip.settings import Settings
from mlip.simulation.md import MDSettings
from mlip.simulation.relax import RelaxSettings
from mlip.training.loss import LossSettings
from mlip.training.optimizer import OptimizerSettings
from mlip.training.schedule import ScheduleSettings
from mlip.training.settings import TrainerSettings

FROM_DATA = ("elements", "avg_num_neighbors", "avg_num_atoms", "scale", "shift")


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file{model_inside(path)}")
    if not path.is_file():
        raise ValueError(f"file {path} was not found (looked from {Path.cwd()})")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing)]


def template(config: type[Settings]) -> type[Settings]:
    """A model's config in which what follows from the data may be left open."""
    fields: dict[str, Any] = {}
    for name in FROM_DATA:
        if name in config.model_fields:
            field = config.model_fields[name]
            annotation: Any = field.annotation
            meaning = (field.description or "").removesuffix("; from the data")
            described = Field(description=f"{meaning}; null: from the data")
            fields[name] = (Annotated[annotation | None, *field.metadata, described], None)
    return create_model(config.__name__, __base__=config, **fields)


TEMPLATES = {name: template(config) for name, config in MODEL_CONFIGS.items()}
ModelTemplate: Any = Annotated[
    Union[tuple(TEMPLATES.values())],  # noqa: UP007
    Field(discriminator="name"),
]

SavedOrTemplate = Annotated[
    Annotated[ModelTemplate, Tag("config")] | Annotated[ExistingFile, Tag("file")],
    Discriminator(lambda value: "file" if isinstance(value, str | Path) else "config"),
]


class TrainConfig(CommandConfig):
    """Config of `mlip train`."""

    resume: bool = Field(True, description="continue the run in the folder; false: refuse to")
    init_from: ExistingFile | None = Field(
        None, description="saved model whose weights to start from"
    )
    dataset: DatasetSettings = Field(description="the data")
    model: ModelTemplate = Field(description="the architecture")
    optimizer: OptimizerSettings = Field(description="the optimiser")
    schedule: ScheduleSettings = Field(description="the learning rate over time")
    loss: LossSettings = Field(description="what is minimised")
    trainer: TrainerSettings = Field(description="how long and in which batches")


class EvaluateConfig(CommandConfig, SourceConfig):
    """Config of `mlip evaluate`."""

    model: ExistingFile = Field(description="saved model NAME.mlip")
    data: FilesByName = Field(
        None, description="labelled files by name of the subset, FILE or FILE@start:stop"
    )
    dataset: DatasetSettings | None = Field(None, description="a data set, instead of `data`")
    mask_fixed: bool = Field(
        False, description="leave the forces of atoms held in place out of the errors"
    )
    batch_size: int = Field(16, ge=1, description="structures evaluated at once")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        require_data_or_dataset(self, "compare with")
        return self


class MDConfig(CommandConfig):
    """Config of `mlip md`."""

    model: ExistingFile = Field(description="saved model NAME.mlip")
    structure: ExistingFile = Field(description="file with the starting structure")
    index: int = Field(-1, description="which frame of the file")
    md: MDSettings = Field(description="ensemble, time step, length")


class RelaxConfig(CommandConfig):
    """Config of `mlip relax`."""

    model: ExistingFile = Field(description="saved model NAME.mlip")
    structure: ExistingFile = Field(description="file with the starting structure")
    index: int = Field(-1, description="which frame of the file")
    relax: RelaxSettings = Field(description="optimiser and convergence")


class InfoConfig(Settings):
    """Config of `mlip info`."""

    model: SavedOrTemplate = Field(description="saved model NAME.mlip, or an architecture")
    dataset: DatasetSettings = Field(description="the data an architecture would be trained on")
    precision: Precision = Field("float32", description="floating-point type of an architecture")
    batch_size: int = Field(5, ge=1, description="structures in the batch whose cost is given")
    n_threads: int | None = Field(None, ge=1, description="CPU threads; null: all")


class BenchmarkModelConfig(CommandConfig):
    """Config of `mlip benchmark model`."""

    model: ModelTemplate = Field(description="the architecture")
    dataset: DatasetSettings = Field(description="the data")
    optimizer: OptimizerSettings = Field(description="the optimiser")
    loss: LossSettings = Field(description="what is minimised")
    precision: Precision = Field("float32", description="floating-point type of the arithmetic")
    batch_size: int = Field(5, ge=1, description="structures in a training step")
    steps: int = Field(30, ge=5, description="timed training steps and ASE steps")


class BenchmarkTensorProductsConfig(CommandConfig):
    """Config of `mlip benchmark tensor-products`."""

    preset: BenchmarkGrid = Field(description="what is measured, and how long")


SCHEMAS: dict[str, type[Settings]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "md": MDConfig,
    "relax": RelaxConfig,
    "info": InfoConfig,
    "data inspect": DataInspectConfig,
    "data prepare": DataPrepareConfig,
    "data convert": DataConvertConfig,
    "data split": DataSplitConfig,
    "data download": DataDownloadConfig,
    "benchmark model": BenchmarkModelConfig,
    "benchmark tensor-products": BenchmarkTensorProductsConfig,
}
