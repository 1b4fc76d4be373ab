"""A worker process: `python -m mlip.data.worker` makes batches of a stream for the process above.

It reads from standard input, pickled: the `Windows`, where to start, which share of the windows to
make. It writes to standard output, pickled and without end: `HostBatch`es, or the exception that
ended it. It ends with the process above, whatever happens to that.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from itertools import islice
from typing import IO

from mlip.data.windows import HostBatch, Windows
from mlip.errors import MlipError

NICENESS = 10  # the training step comes first


@dataclass(frozen=True)
class Task:
    """What a worker does.

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


def main() -> None:
    """Make batches until nobody reads them."""
    # A signal to the whole group of processes is answered by the process above alone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the batches
    task: Task = pickle.load(sys.stdin.buffer)
    ready: queue.Queue[HostBatch | Exception | None] = queue.Queue(
        task.windows.batches_per_window  # ahead of the reader by one window
    )
    threading.Thread(target=_send, args=(ready, output), daemon=True).start()
    try:
        jobs = task.windows.jobs(task.epoch, task.batch, endless=task.endless)
        for job in islice(jobs, task.index, None, task.workers):
            for batch in task.windows.make(job):
                ready.put(batch)
    except MlipError as error:
        ready.put(error)
    except Exception:
        ready.put(RuntimeError(f"in a worker process of the data:\n{traceback.format_exc()}"))
    ready.put(None)
    threading.Event().wait()  # `_send` ends the process


def _send(ready: queue.Queue[HostBatch | Exception | None], output: IO[bytes]) -> None:
    """Write what is ready; end the process after the last item, or when nobody reads."""
    code = 0
    try:
        while (item := ready.get()) is not None:
            pickle.dump(item, output, protocol=pickle.HIGHEST_PROTOCOL)
            output.flush()
        output.close()
    except BrokenPipeError:
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
