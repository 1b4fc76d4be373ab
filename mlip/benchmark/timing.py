"""Timing compiled programs: blocked until done, several in turn, medians with quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

TURNS = 6
SHORT = 0.05  # s; a longer call does not notice that another program ran before it

Call = Callable[[], Any]
"""Starts one run of a program and hands back its results, which may not be there yet."""


class Times(NamedTuple):
    """Times of repeated steps, ms.

    Attributes:
        median: of all.
        spread: first and third quartile.
    """

    median: float
    spread: tuple[float, float]


def quartiles(seconds: Sequence[float] | np.ndarray) -> Times:
    """Median and quartiles of times given in seconds."""
    low, median, high = 1000.0 * np.quantile(seconds, [0.25, 0.5, 0.75])
    return Times(float(median), (float(low), float(high)))


def time_in_turn(
    programs: Sequence[Callable[[], Call]], runs: int, seconds: float
) -> list[np.ndarray]:
    """Time programs in turn, so that a busy moment of the machine hits all alike.

    In each turn every program is called several times, after a call that does not count: the
    caches hold what the program before it left there. Every other turn goes backwards.

    Args:
        programs: each makes its arguments, which live for one turn, and gives the call to time.
        runs: timed calls of each program.
        seconds: time for each program, after which it is called less often, at least once a turn.

    Returns:
        seconds of each call, one array (turns, calls) for each program.
    """
    durations = [_warm_up(prepare()) for prepare in programs]
    most = -(-runs // TURNS)
    calls = [min(max(int(seconds / TURNS / duration), 1), most) for duration in durations]
    times = [np.empty((TURNS, count)) for count in calls]
    for turn in range(TURNS):
        for index in range(len(programs))[:: -1 if turn % 2 else 1]:
            call = programs[index]()
            if durations[index] < SHORT:
                _timed(call)
            times[index][turn] = [_timed(call) for _ in range(calls[index])]
    return times


def _warm_up(call: Call) -> float:
    _timed(call)
    return _timed(call)


def _timed(call: Call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
