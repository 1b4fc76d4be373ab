"""SIGINT and SIGTERM as a request to stop at the next safe point, answered at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PRESS_AGAIN = "press Ctrl-C again to leave at once"


class Interrupted(SystemExit):
    """The run was stopped by a signal after saving; exits with 128 + the signal's number.

    The reporter has told of it already.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(128 + signal_number)
        self.message = message

    def __str__(self) -> str:
        return self.message


class InterruptWatch:
    """While active, the first SIGTERM or SIGINT is a request; a second one ends the process.

    Python's own handlers wait until the main thread is back from a compilation, which takes up to
    minutes. A thread that reads `signal.set_wakeup_fd` answers meanwhile, and ends the process.

    Args:
        answer: called by the thread with the number of the first signal.
        leave: called by the thread before a second signal ends the process with status 128 + its
            number; by then all that is written stays as it is.
        handler: what the first signal does to the main thread besides setting `requested`.
        numbers: the signals.
    """

    def __init__(
        self,
        answer: Callable[[int], None],
        leave: Callable[[], object] = lambda: None,
        handler: Callable[[int, FrameType | None], Any] = lambda number, frame: None,
        numbers: tuple[int, ...] = SIGNALS,
    ) -> None:
        self.requested: int | None = None
        self._answer, self._leave = answer, leave
        self._handler, self._numbers = handler, numbers
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python hands signals to the main thread alone, and lets only that one ask for them.
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._outer = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()
            for number in self._numbers:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._outer)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)
        self._previous = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = self.requested is None, number
        if first:
            self._handler(number, frame)

    def _listen(self) -> None:
        """Answer the first signal, end the process at the second; until the pipe is closed."""
        answered = False
        while received := os.read(self._read, 1):
            if received[0] not in self._numbers:
                continue
            if answered:
                leave_at_once(128 + received[0], self._leave)
            answered = True
            self._answer(received[0])


def leave_at_once(status: int, say: Callable[[], object] = lambda: None) -> NoReturn:
    """End the process with what was printed, but without the interpreter's clearing up.

    A compilation that runs in a thread crashes when what it uses is cleared up.

    Args:
        status: of the process.
        say: called first, for a last word.
    """
    with suppress(Exception):  # whatever the terminal does, the process ends
        say()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
