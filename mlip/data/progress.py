"""How far long work is that happens on the way, such as the first opening of a large file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """What shows how far some work is."""

    def update(self, step: int, text: str) -> None:
        """Show the step just done and what is known of it."""


class _Silent:
    def update(self, step: int, text: str) -> None:
        """Show nothing."""


Begin = Callable[[str, int], AbstractContextManager[Bar]]


def _show_nothing(label: str, total: int) -> AbstractContextManager[Bar]:
    return nullcontext(_Silent())


_begin: Begin = _show_nothing


def show_progress(begin: Begin) -> None:
    """Let a function show the progress of such work, from here on in this process.

    Args:
        begin: gets one word for what is going on and the number of steps, and shows them while its
            context lasts.
    """
    global _begin
    _begin = begin


def progress(label: str, total: int) -> AbstractContextManager[Bar]:
    """The bar of some work, for as long as it lasts; shows nothing unless somebody wants it."""
    return _begin(label, total)
