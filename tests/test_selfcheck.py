"""An unsafe JAX is refused with a message that says what to install."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mlip import selfcheck
from mlip.errors import MlipError


def test_this_installation_is_accepted_as_users_run_it(root):
    """In a process of its own: the tests' compiler options would hide what users see."""
    code = """
import jax
jax.config.update("jax_enable_x64", True)
from mlip import selfcheck
selfcheck.run()
print(selfcheck.relative_error("float32"), selfcheck.relative_error("float64"))
"""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    single, double = map(float, done.stdout.split())
    assert single < 100 * np.finfo(np.float32).eps
    assert double < 100 * np.finfo(np.float64).eps


@pytest.mark.parametrize("version", ["0.10.2", "0.10.2.1", "0.11.0", "0.11.1"])
def test_bad_versions_are_refused_by_name(version):
    with pytest.raises(MlipError, match=rf"jaxlib {version} cannot be used: .*; install jax"):
        selfcheck.check_version("jaxlib", version)


@pytest.mark.parametrize("version", ["0.10.1", "0.12.0.1", "0.12.1", "0.110.0", "1.0.0"])
def test_other_versions_are_not(version):
    selfcheck.check_version("jax", version)


def test_wrong_numbers_are_refused(monkeypatch):
    """The fault of jax 0.10.2: rows beyond a limit get another row's result."""
    honest = jax.jit

    def faulty(function):
        compiled = honest(function)
        return lambda rows: np.roll(np.asarray(compiled(rows)), 1)

    monkeypatch.setattr(jax, "jit", faulty)
    selfcheck.check_arithmetic.cache_clear()
    with pytest.raises(MlipError, match=f"jax {jax.__version__} .* computes wrong numbers"):
        selfcheck.check_arithmetic("float32")


def test_a_result_that_is_not_a_number_is_refused(monkeypatch):
    monkeypatch.setattr(selfcheck, "relative_error", lambda dtype: float("nan"))
    selfcheck.check_arithmetic.cache_clear()
    with pytest.raises(MlipError, match="computes wrong numbers"):
        selfcheck.check_arithmetic("float32")


def test_checked_once_per_process(monkeypatch):
    calls = []
    monkeypatch.setattr(selfcheck, "relative_error", lambda dtype: calls.append(dtype) or 0.0)
    selfcheck.check_arithmetic.cache_clear()
    selfcheck.run()
    selfcheck.run()
    assert calls == ["float32", "float64"]
    selfcheck.check_arithmetic.cache_clear()
