"""`--multirun`: one run for each combination of the comma-separated values."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlip.cli.arguments import Arguments
from mlip.cli.compose import compose
from mlip.cli.console import console, sweep_table
from mlip.cli.overrides import parse_override
from mlip.cli.schema import SCHEMAS
from mlip.cli.schema_command import RunFolderConfig
from mlip.cli.validate import validate
from mlip.errors import MlipError

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # how a job ends that was told to


class Job(NamedTuple):
    """One run of a sweep.

    Attributes:
        label: the swept values, such as `model.channels=16`.
        overrides: all overrides of the run.
        run_dir: its folder.
    """

    label: str
    overrides: tuple[str, ...]
    run_dir: Path


def sweep(arguments: Arguments) -> int:
    """Run every job of a sweep, each in a process and a folder of its own, then summarise.

    All configs are validated before the first job starts. A failing job does not stop the others.

    Returns:
        0 if all jobs succeeded, 128 + the signal's number if a job was stopped by one, else 1.
    """
    assert arguments.verb is not None
    jobs = [_job(arguments, swept, rest) for swept, rest in _combinations(arguments.overrides)]
    if arguments.show_config:
        for job in jobs:
            console().print(f"{job.label}  ->  {job.run_dir}")
        return 0
    codes = []
    for number, job in enumerate(jobs, 1):
        console().rule(f"job {number} of {len(jobs)}: {job.label}")
        codes.append(_run(arguments, job))
        if codes[-1] in STOPPED:
            console().print(f"sweep stopped in job {number}; the same command goes on")
            return codes[-1]
    console().print(sweep_table([(job.label, job.run_dir) for job in jobs], codes))
    return 0 if not any(codes) else 1


def _combinations(items: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each combination as (swept overrides, all overrides)."""
    # Hydra has no public way to spell out a sweep: its sweeper is a plugin that also launches.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = [parse_override(item) for item in items]
    swept = {p.get_key_element() for p in parsed if p.is_sweep_override()}
    if not swept:
        raise MlipError(
            "--multirun needs at least one key with several values, for example "
            "model.channels=16,32."
        )
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return [
        (tuple(item for item in job if item.split("=")[0] in swept), tuple(job)) for job in batch
    ]


def _job(arguments: Arguments, swept: tuple[str, ...], overrides: tuple[str, ...]) -> Job:
    assert arguments.verb is not None
    composed = compose(arguments.verb.config_name, overrides, arguments.file)
    settings = validate(SCHEMAS[arguments.verb.name], composed)
    if not isinstance(settings, RunFolderConfig):
        raise MlipError(f"mlip {arguments.verb.name} writes no run folder, so it has no multirun.")
    label = ",".join(swept)
    folder = settings.run.dir / label.replace("/", "_")
    return Job(label, (*overrides, f"run.dir='{folder}'"), folder)


def _run(arguments: Arguments, job: Job) -> int:
    """Run one job in a process of its own, leaving it to that to answer signals and to save."""
    assert arguments.verb is not None
    command = [sys.executable, "-m", "mlip.cli.main", *arguments.verb.name.split()]
    command += [str(arguments.file)] if arguments.file else []
    process = subprocess.Popen([*command, *job.overrides])
    # A terminal sends Ctrl-C to both processes, a scheduler its SIGTERM to this one alone.
    previous = [
        (signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: process.terminate())),
        (signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN)),
    ]
    try:
        return process.wait()
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
