"""Batches of a stream from worker processes, in order."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator

from mlip.data.prefetch import prefetched
from mlip.data.windows import HostBatch, Windows
from mlip.data.worker import Task
from mlip.errors import MlipError


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
    tasks = [Task(windows, epoch, batch, endless, index, workers) for index in range(workers)]
    processes = [_Worker(task) for task in tasks]

    def stop() -> None:
        for process in processes:
            process.kill()

    def receive() -> Generator[HostBatch, None, None]:
        for number, job in enumerate(windows.jobs(epoch, batch, endless=endless)):
            for _ in range(windows.batches_in(job.window) - job.first):
                yield processes[number % workers].receive()

    yield from prefetched(receive(), on_stop=stop)


class _Worker:
    """One worker process; see `mlip.data.worker`.

    It is a new interpreter, neither a fork of this process, whose threads would not survive it,
    nor one that imports the user's script again.
    """

    def __init__(self, task: Task) -> None:
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

    def receive(self) -> HostBatch:
        """The next batch.

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
            "out, use fewer dataset.workers or a smaller trainer.batch_size. Start the same "
            "command again to go on."
        )
