"""A worker process: `python -m mlip.data.worker` does a task for the process above.

It reads the `Task` from standard input, pickled, and writes to standard output, pickled and without
end: what the task produces, or the exception that ended it. It ends with the process above,
whatever happens to that.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import IO, Any, Protocol

from mlip.errors import MlipError

NICENESS = 10  # the training step comes first


class Task(Protocol):
    """What a worker does; it can be pickled."""

    @property
    def ahead(self) -> int:
        """Number of items that the worker may be ahead of their reader."""

    def produce(self) -> Iterator[Any]:
        """The items, in order."""


def main() -> None:
    """Do the task until it ends or nobody reads what it produces."""
    # A signal to the whole group of processes is answered by the process above alone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the items
    task: Task = pickle.load(sys.stdin.buffer)
    ready: queue.Queue[Any] = queue.Queue(task.ahead)
    threading.Thread(target=_send, args=(ready, output), daemon=True).start()
    try:
        for item in task.produce():
            ready.put(item)
    except MlipError as error:
        ready.put(error)
    except Exception:
        ready.put(RuntimeError(f"in a worker process of the data:\n{traceback.format_exc()}"))
    ready.put(None)
    threading.Event().wait()  # `_send` ends the process


def _send(ready: queue.Queue[Any], output: IO[bytes]) -> None:
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
