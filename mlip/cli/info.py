"""`mlip info`: what a saved potential or a model config is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip.cli.console import console, pairs_table
from mlip.cli.schema import InfoConfig
from mlip.errors import MlipError

if TYPE_CHECKING:
    from flax import nnx

    from mlip.models import ModelConfig


def run(settings: InfoConfig) -> None:
    """Print the description."""
    from mlip import runtime

    runtime.prepare(settings.precision, settings.n_threads)
    if isinstance(settings.model, Path):
        _require_nothing_else(settings)
        _describe_saved(settings.model)
    else:
        _describe_config(settings, settings.model)


def _describe_config(settings: InfoConfig, template: ModelConfig) -> None:
    from mlip.cli.build import make_batches, new_model
    from mlip.cli.costs import evaluation_cost, training_cost
    from mlip.data.dataset import load_dataset

    dataset = load_dataset(settings.dataset)
    precision = settings.precision
    data = make_batches(
        dataset, template, batch_size=settings.batch_size, precision=precision, seed=0
    )
    single = make_batches(dataset, data.config, batch_size=1, precision=precision, seed=0)
    model = new_model(data.config, seed=0, precision=precision)
    _print_model(model, precision, data.e0, dataset.e0.origin)
    _print_parameters(model)
    rows = {
        "data": f"{dataset!r}",
        "batches": f"{data.train!r}",
        "energy and forces, 1 structure": str(
            evaluation_cost(model, single.train.shapes[-1], precision)
        ),
        f"training step, {settings.batch_size} structures": str(
            training_cost(model, data.train.shapes[-1], precision)
        ),
    }
    console().print(pairs_table("Expected cost", rows))


def _require_nothing_else(settings: InfoConfig) -> None:
    """Refuse what describes the training of an architecture: a saved model is trained.

    Raises:
        MlipError: for an option that was changed.
    """
    from mlip.cli.compose import compose
    from mlip.cli.validate import validate

    untouched = validate(InfoConfig, compose("info"))
    for name in ("dataset", "precision", "batch_size"):
        if getattr(settings, name) != getattr(untouched, name):
            raise MlipError(
                f"{name} would have no effect on the saved model {settings.model}, which has its "
                "own; leave it out, or describe an architecture with model=NAME."
            )


def _describe_saved(path: Path) -> None:
    import mlip
    from mlip.cli.costs import evaluation_cost
    from mlip.data.collate import BatchShape
    from mlip.reporting.tables import print_error_table

    potential = mlip.load(path)
    metadata = potential.metadata
    origin = str(metadata.get("e0_origin", "not recorded"))
    _print_model(potential.model, potential.precision, potential.e0, origin)
    _print_parameters(potential.model)
    shapes = metadata.get("training", {}).get("shapes")
    if shapes:
        shape = BatchShape(**shapes[-1])
        cost = str(evaluation_cost(potential.model, shape, potential.precision))
        rows = {f"energy and forces, {shape.graphs} structures of its training data": cost}
        console().print(pairs_table("Expected cost", rows))
    _print_provenance(metadata)
    if metadata.get("metrics"):
        print_error_table(metadata["metrics"], console())


def _print_model(model: nnx.Module, precision: str, e0: Mapping[int, float], origin: str) -> None:
    from ase.data import chemical_symbols

    from mlip.cli.build import count_parameters, operators

    config: ModelConfig = model.config  # type: ignore[attr-defined]
    energies = ", ".join(f"{chemical_symbols[z]} {value:.4f}" for z, value in e0.items())
    rows = {
        "model": config.name,
        "parameters": f"{count_parameters(model):,}",
        "cutoff": f"{config.cutoff} Å",
        "elements": " ".join(chemical_symbols[z] for z in config.elements),
        "precision": precision,
        "E0": f"{energies} eV ({origin})",
        "operators": ", ".join(operators(config)),
    }
    skipped = {"name", "elements", "cutoff"}
    rows |= {key: str(v) for key, v in config.model_dump().items() if key not in skipped}
    console().print(pairs_table("Model", rows))


def _print_parameters(model: nnx.Module) -> None:
    rows = {part: f"{count:,}" for part, count in parameters_by_part(model).items()}
    console().print(pairs_table("Parameters by part", rows))


def parameters_by_part(model: nnx.Module) -> dict[str, int]:
    """Numbers of trainable numbers, summed over the weights of one block: `layers.0.product`."""
    from mlip.training.state import SplitModel

    counts: dict[str, int] = {}
    for name, value in SplitModel(model).params.items():
        parts = name.split(".")
        part = ".".join(parts[: 3 if len(parts) > 1 and parts[1].isdigit() else 1])
        counts[part] = counts.get(part, 0) + value.size
    return counts


def _print_provenance(metadata: Mapping[str, Any]) -> None:
    data, training = metadata.get("data", {}), metadata.get("training", {})
    rows = {f"data {key}": str(value) for key, value in data.items()}
    rows |= {
        f"training {key}": f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in training.items()
        if key != "shapes"
    }
    rows |= {f"version of {key}": str(v) for key, v in metadata.get("versions", {}).items()}
    console().print(pairs_table("Provenance", rows))
