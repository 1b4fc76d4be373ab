"""`mlip benchmark model`: times of a training step and of an ASE step, to benchmark.json."""

from __future__ import annotations

from typing import Any

from mlip.cli.console import console, pairs_table
from mlip.cli.provenance import versions
from mlip.cli.run_folder import write_config, write_json
from mlip.cli.schema import BenchmarkModelConfig


def run(settings: BenchmarkModelConfig) -> None:
    """Time, print and write `benchmark.json`."""
    from mlip import runtime
    from mlip.benchmark.steps import peak_memory_mb, time_ase_steps, time_training_steps
    from mlip.cli.build import count_parameters, make_batches, new_model
    from mlip.data.dataset import load_dataset
    from mlip.potential import Potential

    run_dir = settings.run.dir
    runtime.prepare(settings.precision, settings.n_threads)
    console().print(runtime.summary(), markup=False)
    dataset = load_dataset(settings.dataset)
    data = make_batches(
        dataset,
        settings.model,
        batch_size=settings.batch_size,
        precision=settings.precision,
        seed=0,
    )
    console().print(f"{dataset!r}; {data.train!r}", markup=False)
    model = new_model(data.config, seed=0, precision=settings.precision)
    training = time_training_steps(
        model, data.train, settings.optimizer, settings.loss, settings.steps
    )
    elements = data.config.elements
    potential = Potential(model, elements=elements, e0=data.e0, precision=settings.precision)
    ase = time_ase_steps(potential, dataset.valid[0], settings.steps)
    results: dict[str, Any] = {
        "train_step_ms": training.step.median,
        "train_step_ms_spread": training.step.spread,
        "ase_step_ms": ase.step.median,
        "ase_step_ms_spread": ase.step.spread,
        "compile_s": training.compile_s,
        "ase_compile_s": ase.compile_s,
        "num_compilations": training.num_compilations,
        "ase_num_compilations": ase.num_compilations,
        "padding_share": data.train.padding_share,
        "atoms_per_s": training.atoms_per_s,
        "peak_memory_mb": peak_memory_mb(),
        "num_parameters": count_parameters(model),
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "device": runtime.summary(),
        "versions": versions(),
    }
    write_config(run_dir, settings)
    write_json(run_dir / "benchmark.json", results)
    console().print(pairs_table("Benchmark", _readable(results)))
    console().print(f"written to {run_dir}/benchmark.json")


def _readable(results: dict[str, Any]) -> dict[str, str]:
    def with_spread(key: str) -> str:
        low, high = results[f"{key}_spread"]
        return f"{results[key]:.1f} ms (quartiles {low:.1f} to {high:.1f})"

    return {
        "training step": with_spread("train_step_ms"),
        "ASE step": with_spread("ase_step_ms"),
        "compilation": (
            f"{results['compile_s']:.1f} s for {results['num_compilations']} training programs, "
            f"{results['ase_compile_s']:.1f} s for {results['ase_num_compilations']} in ASE"
        ),
        "padding of edges": f"{results['padding_share']:.1%}",
        "throughput": f"{results['atoms_per_s']:,.0f} atoms/s in training",
        "peak memory": f"{results['peak_memory_mb']:,.0f} MB of the process",
        "parameters": f"{results['num_parameters']:,}",
    }
