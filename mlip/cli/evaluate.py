"""`mlip evaluate`: errors of a saved potential on labelled structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlip.cli.build import kind_of_energies
from mlip.cli.console import console
from mlip.cli.run_folder import (
    SUBJECT,
    file_with_hash,
    require_subject,
    write_config,
    write_json,
)
from mlip.cli.schema import EvaluateConfig
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.data.dataset import Subset
    from mlip.data.sources.source import EnergyReference


def run(settings: EvaluateConfig) -> None:
    """Evaluate, print the table and write evaluation, arrays and report."""
    import mlip
    from mlip import runtime
    from mlip.reporting.report import write_report
    from mlip.reporting.tables import print_error_table
    from mlip.training.doubts import doubts
    from mlip.training.evaluate import evaluate_subsets, left_out_notes

    run_dir = settings.run.dir
    subject = {"model": file_with_hash(settings.model), **_data(settings)}
    require_subject(run_dir, subject)
    runtime.prepare(threads=settings.n_threads)
    potential = mlip.load(settings.model)
    console().print(f"{potential!r}; {runtime.summary()}", markup=False)
    subsets = _structures(settings, potential.metadata)
    mask_fixed = (settings.dataset or settings).mask_fixed
    evaluation = evaluate_subsets(potential, subsets, settings.batch_size, mask_fixed=mask_fixed)
    write_config(run_dir, settings)
    write_json(run_dir / SUBJECT, subject)
    evaluation.write(run_dir)
    write_report(run_dir)
    print_error_table(evaluation.summary, console())
    for note in left_out_notes(evaluation.summary):
        console().print(note, style="yellow", markup=False)
    for doubt in doubts(evaluation):
        console().print(f"warning: {doubt}", style="yellow", markup=False)
    console().print(f"written to {run_dir}: evaluation.json, predictions.npz, report.html")


def _data(settings: EvaluateConfig) -> dict[str, str]:
    """The option that names the data, as text."""
    if settings.dataset is not None:
        return {"dataset": f"{settings.dataset.name} in {settings.dataset.root}"}
    assert settings.data is not None
    return {"data": ", ".join(settings.data.values())}


def _structures(settings: EvaluateConfig, metadata: Mapping[str, Any]) -> dict[str, Subset]:
    """The labelled structures by subset; their energies count from what those of training did."""
    from mlip.data.dataset import load_dataset

    reference = kind_of_energies(metadata)
    if settings.dataset is not None:
        dataset = load_dataset(settings.dataset)
        for note in dataset.notes:
            console().print(note, style="yellow", markup=False)
        found = dataset.energy_reference
        if found != reference and "unstated" not in (found, reference):
            raise MlipError(
                f"dataset={dataset.settings.name} has {found} energies, but the model was trained "
                f"on {reference} ones; choose other data, or set dataset.energy_reference="
                f"{reference} if they can be converted."
            )
        return {"valid": dataset.valid, **dataset.tests}
    return _files(settings, reference)


def _files(settings: EvaluateConfig, reference: EnergyReference) -> dict[str, Subset]:
    """The structures of `data`, by its names."""
    from mlip.data.dataset import read_frames

    assert settings.data is not None
    how = settings.for_source()
    if reference != "unstated":
        if how.energy_reference not in (None, "unstated", reference):
            raise MlipError(
                f"energy_reference={how.energy_reference}, but the model was trained on "
                f"{reference} energies; leave it out if data={', '.join(settings.data.values())} "
                "holds these or can be converted to them, or choose other data."
            )
        how = how.model_copy(update={"energy_reference": reference})
    found = {}
    for name, file in settings.data.items():
        found[name], notes = read_frames(file, how, skip_bad=settings.on_bad_record == "skip")
        for note in notes:
            console().print(note, style="yellow", markup=False)
    return found
