"""Iterating ahead of the consumer in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

PREFETCH = 2  # items made ahead of the consumer

Item = TypeVar("Item")


def prefetched(
    source: Iterator[Item], on_stop: Callable[[], None] = lambda: None
) -> Generator[Item, None, None]:
    """Run an iterator in a thread, a few items ahead; its exceptions reach the consumer.

    Args:
        source: the iterator.
        on_stop: called when the consumer stops, in its thread: ends what `source` may wait for.
    """
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=PREFETCH)
    stopped = threading.Event()

    def put(item: Item | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="mlip-batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        on_stop()
        thread.join()
