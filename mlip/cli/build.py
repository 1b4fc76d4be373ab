"""From settings to the objects they describe: data with its batches, and a model to train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlip.cli.console import console
from mlip.errors import MlipError

if TYPE_CHECKING:
    from pathlib import Path

    from flax import nnx

    from mlip.cli.schema import TrainConfig
    from mlip.data.dataset import Dataset
    from mlip.data.dataset_settings import DatasetSettings
    from mlip.data.pipeline import Batches
    from mlip.data.preflight import PreflightReport
    from mlip.data.sources.source import EnergyReference
    from mlip.data.statistics import Statistics
    from mlip.data.streaming import StreamedBatches
    from mlip.data.windows import Shard
    from mlip.models import ModelConfig
    from mlip.potential import Potential
    from mlip.training.loop import FitResult


class Data(NamedTuple):
    """A data set ready for training.

    Attributes:
        dataset: structures, elements, E0.
        config: the model's config, completed from the data.
        e0: energy of the isolated atom of every element of the model, eV.
        train: training batches.
        valid: validation batches.
    """

    dataset: Dataset
    config: ModelConfig
    e0: dict[int, float]
    train: Batches | StreamedBatches
    valid: Batches | StreamedBatches


def load_and_check(settings: DatasetSettings, cutoff: float) -> tuple[Dataset, PreflightReport]:
    """Load a data set, print what it is and where E0 comes from, and run the pre-flight check.

    Returns:
        The data set and what the check found.

    Raises:
        MlipError: for data that cannot be read or should not be trained on.
    """
    from mlip.data.dataset import load_dataset
    from mlip.data.preflight import preflight

    dataset = load_dataset(settings)
    console().print(repr(dataset))
    console().print(dataset.e0.table())
    report = preflight(dataset, cutoff)
    for line in report.lines():
        style = "yellow" if line.startswith("warning") else None
        console().print(f"  {line}", style=style, markup=False)
    return dataset, report


def make_batches(
    dataset: Dataset,
    template: ModelConfig,
    *,
    batch_size: int,
    precision: str,
    seed: int,
    e0: dict[int, float] | None = None,
) -> Data:
    """Pack the data into batches and complete the model's config with what follows from them.

    Where JAX runs in several processes (`jax.distributed.initialize`), each gets its share of
    every training batch, and all of the validation data.

    Args:
        dataset: as loaded.
        template: a model's config in which elements and statistics may be open.
        batch_size: structures per step, of all processes together.
        precision: "float32" or "float64".
        seed: of the order of the data.
        e0: energies for elements that the data do not contain, eV.

    Raises:
        MlipError: if an element of the model has no E0, or see `Batches`.
    """
    import jax

    from mlip.data.statistics import compute_statistics
    from mlip.data.windows import WHOLE, Shard

    elements = template.elements or dataset.elements
    energies = {**(e0 or {}), **dataset.e0.values}
    _require_e0(elements, energies)
    common: dict[str, Any] = {
        "cutoff": template.cutoff,
        "elements": elements,
        "e0": energies,
        "batch_size": batch_size,
        "dtype": precision,
    }
    shard = Shard(jax.process_index(), jax.process_count())
    train = _batches(dataset, "train", shard=shard, **common, seed=seed)
    valid = _batches(dataset, "valid", shard=WHOLE, **common, shuffle=False)
    mask_fixed = dataset.settings.mask_fixed
    statistics = compute_statistics(
        train.structures, train.neighbors, dataset.e0.values, mask_fixed=mask_fixed
    )
    config = _with_operators(complete(template, elements, statistics), train, precision)
    return Data(dataset, config, energies, train, valid)


def fit_data(
    config: TrainConfig, data: Data, model: nnx.Module, run_dir: Path | str, **options: Any
) -> FitResult:
    """Train a model on its data as a command's config says.

    Args:
        config: of `mlip train`.
        data: from `make_batches`.
        model: for these data.
        run_dir: receives checkpoints and metrics.
        options: further ones of `fit`, its `settings` among them.
    """
    from mlip.training.loop import fit

    return fit(
        model,
        data.train,
        data.valid,
        trainer=config.trainer,
        loss=config.loss,
        optimizer=config.optimizer,
        schedule=config.schedule,
        run_dir=run_dir,
        **options,
    )


def _batches(
    dataset: Dataset, name: str, *, shard: Shard, **options: Any
) -> Batches | StreamedBatches:
    """Batches of a subset, from memory or streamed.

    Args:
        dataset: as loaded.
        name: of the subset.
        shard: which share of it.
        options: of the batches.

    Raises:
        MlipError: for a share of data in memory.
    """
    from mlip.data.frames import Frames
    from mlip.data.pipeline import Batches
    from mlip.data.streaming import StreamedBatches

    subset, settings = dataset.subsets[name], dataset.settings
    options["mask_fixed"] = settings.mask_fixed
    if isinstance(subset, Frames):
        sample = dataset.sample(name)
        return StreamedBatches(subset, sample, **options, workers=settings.workers, shard=shard)
    if shard.count > 1:
        raise MlipError(
            f"dataset.{name} is in memory, and JAX runs in {shard.count} processes, which can only "
            "share data that are streamed; set dataset.stream=true."
        )
    return Batches(subset, **options)


def _require_e0(elements: tuple[int, ...], e0: dict[int, float]) -> None:
    from ase.data import chemical_symbols

    missing = " ".join(chemical_symbols[number] for number in elements if number not in e0)
    if missing:
        raise MlipError(
            f"model.elements names {missing}, for which there is no E0 since the training data do "
            f"not contain it; leave {missing} out, add its isolated atom to "
            "dataset.isolated_atoms, or give the energies of all elements with dataset.e0."
        )


def _with_operators(
    config: ModelConfig, train: Batches | StreamedBatches, precision: str
) -> ModelConfig:
    """The config with `auto` replaced by the fastest operators for the largest batches."""
    from mlip.models import choose_operators
    from mlip.tensor_products.auto import GraphSize

    largest = train.shapes[-1]
    size = GraphSize(largest.nodes, largest.blocks, largest.width)
    chosen, sentences = choose_operators(config, size, precision)
    for sentence in sentences:
        console().print(f"tensor product of the {sentence}", markup=False)
    return chosen


def complete(
    template: ModelConfig, elements: tuple[int, ...], statistics: Statistics
) -> ModelConfig:
    """The model's config with everything that was left open filled in from the data."""
    from mlip.models import MODEL_CONFIGS

    values = template.model_dump()
    from_data = {"elements": elements, **statistics._asdict()}
    filled = {
        name: from_data[name] if value is None and name in from_data else value
        for name, value in values.items()
    }
    return MODEL_CONFIGS[values["name"]](**filled)


def new_model(config: ModelConfig, *, seed: int, precision: str) -> nnx.Module:
    """A freshly initialised model."""
    import jax.numpy as jnp
    from flax import nnx

    from mlip.models import build_model

    return build_model(config, rngs=nnx.Rngs(seed), dtype=jnp.dtype(precision))


def operators(config: ModelConfig) -> list[str]:
    """Where a model has a tensor product, and which: `convolution channelwise`."""
    return [f"{field} {getattr(config, field).name}" for field in config.operator_shapes()]


def count_parameters(model: nnx.Module) -> int:
    """Number of trainable numbers."""
    import jax
    from flax import nnx

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def kind_of_energies(metadata: Mapping[str, Any]) -> EnergyReference:
    """What the energies counted from that a saved potential was trained on."""
    kind: EnergyReference = metadata.get("data", {}).get("energy_reference", "unstated")
    return kind


def inherited_e0(
    potential: Potential, path: Path, dataset: Dataset
) -> tuple[dict[int, float], list[str]]:
    """E0 of a saved potential, for elements that the data lack, and what is doubtful about it.

    Args:
        potential: whose training is continued.
        path: its file, for messages.
        dataset: what it is continued with. Where its energies are known to count from something
            else than those of the potential, no E0 is taken over.

    Raises:
        MlipError: if one would be needed in this case.
    """
    from ase.data import chemical_symbols

    before, now = kind_of_energies(potential.metadata), dataset.energy_reference
    if before == now or "unstated" in (before, now):
        return potential.e0, []
    contradiction = (
        f"init_from={path} was trained on {before} energies, the training data hold {now} ones"
    )
    lacking = [chemical_symbols[z] for z in potential.elements if z not in dataset.e0.values]
    if lacking:
        raise MlipError(
            f"{contradiction}, so that its E0 do not belong to them, and there are no others for "
            f"{' '.join(lacking)}; give the energies of all elements with dataset.e0, set "
            f"dataset.energy_reference={before} if the data can be converted, or train without "
            "init_from."
        )
    return {}, [f"{contradiction}: what it has learned of energies does not fit them"]


def continue_from(
    saved: Potential, path: Path, config: ModelConfig, *, precision: str
) -> nnx.Module:
    """The model of a saved potential, in the given precision; says where its weights come from.

    Args:
        saved: the potential.
        path: its file, for messages.
        config: the config of this run, which must be that of the saved model.
        precision: "float32" or "float64".

    Raises:
        MlipError: if the configs differ.
    """
    import jax
    from flax import nnx

    before, now = saved.config.model_dump(), config.model_dump()
    changed = [key for key in now if now[key] != before.get(key)]
    if changed:
        shown = "; ".join(f"{key} is {before.get(key)} there, {now[key]} here" for key in changed)
        raise MlipError(
            f"init_from={path}: the saved model has another architecture: {shown}. Leave these "
            "keys of model out, and its architecture is used."
        )
    change = "" if saved.precision == precision else f", {saved.precision} there, {precision} here"
    console().print(f"weights of {path}{change}", markup=False)
    model = new_model(config, seed=0, precision=precision)
    weights = nnx.state(saved.model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda value: value.astype(precision), weights))
    return model
