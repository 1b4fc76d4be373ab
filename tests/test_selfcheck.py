"""An unsafe JAX is refused with a message that says what to install."""

import jax
import numpy as np
import pytest

from mlip import selfcheck
from mlip.errors import MlipError


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jitted_arithmetic_agrees_with_numpy(dtype):
    assert selfcheck.relative_error(dtype) < 100 * np.finfo(dtype).eps


def test_this_installation_is_accepted():
    selfcheck.run()


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
