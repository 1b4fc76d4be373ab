"""Worker processes, and the batches of a stream from them in order."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlip.data.prefetch import prefetched
from mlip.data.windows import HostBatch, Windows
from mlip.data.worker import Task
from mlip.errors import MlipError


@dataclass(frozen=True)
class WindowTask:
    """Makes the batches of some windows; see `mlip.data.worker.Task`.

    Attributes:
        windows: makes the batches.
        epoch: epoch to start in.
        batch: batch of it to start with.
        endless: go on with the next epochs.
        index: of this worker.
        workers: their number; each makes every `workers`-th window.
    """

    windows: Windows
    epoch: int
    batch: int
    endless: bool
    index: int
    workers: int

    @property
    def ahead(self) -> int:
        """One window."""
        return self.windows.batches_per_window

    def produce(self) -> Iterator[HostBatch]:
        """The batches."""
        jobs = self.windows.jobs(self.epoch, self.batch, endless=self.endless)
        for job in islice(jobs, self.index, None, self.workers):
            yield from self.windows.make(job)


def from_workers(
    windows: Windows, epoch: int, batch: int, *, workers: int, endless: bool
) -> Generator[HostBatch, None, None]:
    """The batches from a position on, made by worker processes ahead of the consumer.

    The windows are dealt to the workers in turn and taken from them in turn, so that the batches
    and their order are the same for any number of workers.

    Args:
        windows: makes the batches.
        epoch: epoch to start in.
        batch: batch of it to start with.
        workers: number of processes; 0 makes the batches in a thread of this one.
        endless: go on with the next epochs; otherwise stop at the end of this one.

    Raises:
        MlipError: what a worker met, or that it was killed.
    """
    if workers == 0:
        jobs = windows.jobs(epoch, batch, endless=endless)
        yield from prefetched(made for job in jobs for made in windows.make(job))
        return
    tasks = [WindowTask(windows, epoch, batch, endless, index, workers) for index in range(workers)]
    hint = "use fewer dataset.workers or a smaller trainer.batch_size"
    jobs = windows.jobs(epoch, batch, endless=endless)
    counts = (windows.batches_in(job.window) - job.first for job in jobs)
    yield from in_turn(tasks, counts, hint)


def in_turn(tasks: Sequence[Task], counts: Iterable[int], hint: str) -> Generator[Any, None, None]:
    """What tasks produce that were dealt pieces of work in turn, in the order of the pieces.

    Args:
        tasks: one for each worker process; the n-th piece is part of task n mod their number.
        counts: number of items of each piece.
        hint: what helps where memory runs out, for the message.

    Raises:
        MlipError: what a worker met, or that it was killed.
    """
    processes = [Worker(task, hint) for task in tasks]

    def stop() -> None:
        for process in processes:
            process.kill()

    def receive() -> Generator[Any, None, None]:
        for number, count in enumerate(counts):
            for _ in range(count):
                yield processes[number % len(processes)].receive()

    yield from prefetched(receive(), on_stop=stop)


class Worker:
    """One worker process; see `mlip.data.worker`.

    It is a new interpreter, neither a fork of this process, whose threads would not survive it,
    nor one that imports the user's script again.

    Args:
        task: what it does.
        hint: what helps where memory runs out, for the message.
    """

    def __init__(self, task: Task, hint: str) -> None:
        self._hint = hint
        # All that can be imported here can be imported there; more threads would only disturb.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlip.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stdin:
                pickle.dump(task, stdin, protocol=pickle.HIGHEST_PROTOCOL)
        except BrokenPipeError:  # `receive` says how it ended
            pass

    def receive(self) -> Any:
        """The next item of its task.

        Raises:
            MlipError: what the worker met, or that it was killed.
        """
        assert self._process.stdout is not None
        try:
            item = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise MlipError(self._obituary()) from None
        if isinstance(item, Exception):
            raise item
        return item

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _obituary(self) -> str:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return (
            f"a worker process of the data (process {self._process.pid}) {how}; if memory ran "
            f"out, {self._hint}. Start the same command again to go on."
        )
