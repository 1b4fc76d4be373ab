"""Timing in turn, with stand-ins for the programs, and compiling without the stored programs."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.benchmark.compiling import compile_program, without_stored_programs
from mlip.benchmark.timing import TURNS, quartiles, time_in_turn


def stand_in(name, seconds, calls):
    """A program that sleeps, and writes down when its arguments are made and when it is called."""

    def prepare():
        calls.append(f"{name}'")

        def call():
            calls.append(name)
            time.sleep(seconds)

        return call

    return prepare


def test_programs_are_called_in_turn_forwards_and_backwards():
    calls = []
    times = time_in_turn([stand_in("a", 0, calls), stand_in("b", 0, calls)], 2 * TURNS, 1.0)
    assert [one.shape for one in times] == [(TURNS, 2), (TURNS, 2)]
    assert "".join(calls).startswith("a'aab'bb" + "a'aaab'bbb" + "b'bbba'aaa" + "a'aaab'bbb")
    assert calls.count("a") == calls.count("b") == 2 + 3 * TURNS


def test_a_slow_program_is_called_less_often_and_a_long_one_needs_no_call_before():
    calls = []
    fast, slow = time_in_turn([stand_in("f", 0, calls), stand_in("s", 0.06, calls)], 30, 0.3)
    assert fast.size == 30
    assert slow.size == TURNS
    assert calls.count("s") == 2 + TURNS
    assert np.all(slow > 0.06)


def test_nothing_to_time():
    assert time_in_turn([], 30, 1.0) == []


def test_quartiles_in_milliseconds():
    times = quartiles([0.001, 0.002, 0.003, 0.004, 0.005])
    assert times.median == pytest.approx(3.0)
    assert times.spread == pytest.approx((2.0, 4.0))


def test_the_compiler_counts_what_is_computed(tmp_path):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache
    with without_stored_programs():
        assert not jax.config.jax_enable_compilation_cache
        matrix = jnp.ones((30, 20), jnp.float32)
        compiled = compile_program(lambda a, b: a @ b, matrix, matrix.T)
    assert compiled.flops == pytest.approx(2 * 30 * 20 * 30, rel=0.1)
    assert compiled.traffic >= 4 * (2 * 600 + 900)
    assert compiled.memory >= 4 * (2 * 600 + 900)
    assert compiled.seconds > 0
    np.testing.assert_allclose(compiled.program(matrix, matrix.T), 20.0)
    assert before == (
        jax.config.jax_compilation_cache_dir,
        jax.config.jax_enable_compilation_cache,
    )
