"""Compiling a program for measurement: how long it takes, and what the compiler says of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache


class Compiled(NamedTuple):
    """A compiled program.

    Attributes:
        program: takes the arguments it was compiled for.
        digest: of its text before compilation; programs that are alike have the same.
        seconds: tracing and compiling.
        flops: floating-point operations of a call, by the compiler's count.
        traffic: bytes read and written in a call, by the compiler's count.
        memory: bytes of arguments, results and temporary storage.
    """

    program: Callable[..., Any]
    digest: str
    seconds: float
    flops: float | None
    traffic: float | None
    memory: float


def compile_program(function: Callable[..., Any], *arguments: Any) -> Compiled:
    """Compile a function for arguments of these shapes.

    Args:
        function: of arrays; what it does not take as an argument is a constant of the program.
        arguments: arrays, or their shapes and types.
    """
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*arguments)
    program = lowered.compile()
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()
    analysis = program.cost_analysis()
    counts = analysis[0] if isinstance(analysis, list) else analysis or {}
    needed = program.memory_analysis()
    memory = (
        0
        if needed is None
        else (
            needed.argument_size_in_bytes + needed.output_size_in_bytes + needed.temp_size_in_bytes
        )
    )
    return Compiled(
        program, digest, seconds, counts.get("flops"), counts.get("bytes accessed"), float(memory)
    )


@contextmanager
def without_stored_programs() -> Iterator[None]:
    """Leave the cache of compiled programs on disk aside, so that compiling takes its full time."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
