"""`mlip train`: data, model, training, and what is left in the run folder afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip.cli.build import (
    Data,
    continue_from,
    count_parameters,
    fit_data,
    inherited_e0,
    load_and_check,
    make_batches,
    new_model,
    operators,
)
from mlip.cli.console import console
from mlip.cli.provenance import versions
from mlip.cli.render import to_yaml
from mlip.cli.run_folder import has_checkpoints, write_config
from mlip.cli.schema import TrainConfig

if TYPE_CHECKING:
    from flax import nnx

    from mlip.training.run import FitResult

PRODUCTS = ("config.yaml", "model.mlip", "evaluation.json", "predictions.npz", "report.html")


def run(settings: TrainConfig) -> int:
    """Train, or resume, and write model, evaluation and report into the run folder.

    Returns:
        0, or 128 + the signal's number when stopped by one.
    """
    from mlip import runtime
    from mlip.training.interrupt import Interrupted

    run_dir, trainer = settings.run.dir, settings.trainer
    runtime.prepare(trainer.precision, settings.n_threads)
    console().print(f"run folder {run_dir}; {runtime.summary()}", markup=False)
    data, model, warnings = _prepare(settings)
    if not has_checkpoints(run_dir):
        write_config(run_dir, settings)
    try:
        result = fit_data(
            settings,
            data,
            model,
            run_dir,
            settings=_shared_by_resumed_runs(settings, data),
            data_warnings=warnings,
        )
    except Interrupted as stop:  # which the reporter has told of
        return int(stop.code or 0)
    if result.timing.train_step_ms is None and _is_finished(settings):
        console().print(f"{run_dir} holds the finished run; nothing was left to do.")
        _print_errors(run_dir, json.loads((run_dir / "evaluation.json").read_text()))
        return 0
    _finish(settings, data, result)
    return 0


def _is_finished(settings: TrainConfig) -> bool:
    """Whether the folder holds all that this command, and no other, leaves in it."""
    run_dir = settings.run.dir
    if not all((run_dir / name).is_file() for name in PRODUCTS):
        return False
    return (run_dir / "config.yaml").read_text(encoding="utf-8") == to_yaml(settings)


def _prepare(settings: TrainConfig) -> tuple[Data, nnx.Module, Sequence[str]]:
    """Data, a model with initial weights, and the warnings of the data check; told to the user."""
    import mlip
    from mlip.training.labels import require_labels

    trainer, template = settings.trainer, settings.model
    dataset, report = load_and_check(settings.dataset, template.cutoff)
    require_labels(dataset.sample("train"), dataset.sample("valid"), trainer, settings.loss)
    base_e0: dict[int, float] = {}
    warnings: list[str] = []
    saved = None
    if settings.init_from is not None:
        saved = mlip.load(settings.init_from)
        base_e0, warnings = inherited_e0(saved, settings.init_from, dataset)
    if trainer.batch_size > len(dataset.train):
        warnings.append(
            f"trainer.batch_size={trainer.batch_size}, but there are only {len(dataset.train)} "
            "training frames: every step takes all of them, and an epoch is a single step"
        )
    for warning in warnings:
        console().print(f"  warning: {warning}", style="yellow", markup=False)
    data = make_batches(
        dataset,
        template,
        batch_size=trainer.batch_size,
        precision=trainer.precision,
        seed=trainer.seed,
        e0=base_e0,
    )
    if saved is None or settings.init_from is None:
        model = new_model(data.config, seed=trainer.seed, precision=trainer.precision)
    else:
        model = continue_from(saved, settings.init_from, data.config, precision=trainer.precision)
    console().print(
        f"{template.name} with {count_parameters(model):,} parameters, cutoff {template.cutoff} Å, "
        f"{trainer.precision}; {', '.join(operators(data.config))}; {data.train!r}",
        markup=False,
    )
    return data, model, [*report.warnings, *warnings]


def _shared_by_resumed_runs(settings: TrainConfig, data: Data) -> dict[str, Any]:
    """What a resumed run must agree on besides the training settings."""
    from mlip.data.dataset import fingerprint
    from mlip.data.frames import Frames
    from mlip.models import fits_of

    dataset = data.dataset
    fits = fits_of(data.config)
    return {
        "model": data.config.model_dump(mode="json"),
        "data": {
            "training structures": dataset.fingerprint,
            "validation structures": fingerprint(dataset.valid, dataset.sample("valid")),
            "streamed": isinstance(dataset.train, Frames),
            "mask_fixed": dataset.settings.mask_fixed,
            "e0": {str(number): value for number, value in data.e0.items()},
        },
        "init_from": str(settings.init_from) if settings.init_from else None,
        "fitted on this machine": {name: fit.fingerprint() for name, fit in fits.items()} or None,
    }


def _finish(settings: TrainConfig, data: Data, result: FitResult) -> None:
    """Save the model, evaluate it on the named subsets and write the report."""
    from mlip.io.saved_model import save
    from mlip.potential import Potential
    from mlip.reporting.report import write_report
    from mlip.training.evaluate import evaluate_subsets

    run_dir, dataset = settings.run.dir, data.dataset
    potential = Potential(
        result.model,
        elements=data.config.elements,
        e0=data.e0,
        precision=settings.trainer.precision,
        metadata=_metadata(settings, data, result),
    )
    save(potential, run_dir / "model.mlip")  # before the evaluation, so that it cannot be lost
    evaluation = evaluate_subsets(
        potential,
        {"valid": dataset.valid, **dataset.tests},
        mask_fixed=dataset.settings.mask_fixed,
    )
    evaluation.write(run_dir)
    potential.metadata["metrics"] = evaluation.summary
    save(potential, run_dir / "model.mlip")
    write_config(run_dir, settings)
    write_report(run_dir)
    console().print(_summary(result), markup=False)
    _print_errors(run_dir, evaluation.summary)


def _metadata(settings: TrainConfig, data: Data, result: FitResult) -> dict[str, Any]:
    """Provenance kept in the saved model."""
    from mlip.data.summary import summarise

    timing = result.timing
    return {
        "training_config": settings.model_dump(mode="json"),
        "data": {
            "name": settings.dataset.name,
            "fingerprint": data.dataset.fingerprint,
            "subsets": summarise(data.dataset),
            "energy_reference": data.dataset.energy_reference,
        },
        "e0_origin": data.dataset.e0.origin,
        "versions": versions(),
        "training": {
            "steps": result.step,
            "epochs": result.epoch,
            "stopped_by": result.stopped_by,
            "best_step": result.best_step,
            "seconds": timing.seconds,
            "train_step_ms": timing.train_step_ms,
            "compile_seconds": timing.compile_seconds,
            "num_compilations": len(result.compilations),
            "data_wait_share": timing.data_wait_share,
            "skipped_records": result.skipped_records,
            "padding_share": data.train.padding_share,
            "shapes": [shape._asdict() for shape in data.train.shapes],
        },
    }


def _summary(result: FitResult) -> str:
    timing = result.timing
    step = f", {timing.train_step_ms:.0f} ms a step" if timing.train_step_ms else ""
    if timing.data_wait_share is not None:
        step += f" of which {timing.data_wait_share:.1%} waited for data"
    if result.skipped_records:
        step += f"; left out records that cannot be used {result.skipped_records} times"
    return (
        f"trained {result.epoch} epochs, {result.step} steps in {timing.seconds / 60:.1f} min"
        f"{step}; {len(result.compilations)} compilations in {timing.compile_seconds:.0f} s; "
        f"stopped by {result.stopped_by}"
    )


def _print_errors(run_dir: Path, errors: dict[str, Any]) -> None:
    from mlip.reporting.tables import print_error_table
    from mlip.training.evaluate import left_out_notes

    print_error_table(errors, console())
    for note in left_out_notes(errors):
        console().print(note, style="yellow", markup=False)
    console().print(f"model, errors and report: {run_dir}/model.mlip, evaluation.json, report.html")
