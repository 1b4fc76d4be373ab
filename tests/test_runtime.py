"""Precision, threads and the cache of compiled programs, each in a process of its own."""

import os
import platform
import subprocess
import sys

import jax
import pytest

from mlip import runtime
from mlip.errors import MlipError


def run(root, code, **environment):
    """Run code in a new process; a value of None removes the variable."""
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    env = {key: value for key, value in env.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COMPILE = """
import jax, jax.numpy as jnp
from mlip import runtime
runtime.prepare()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((5, 5))).block_until_ready()
print(runtime.summary())
"""


def test_compiled_programs_are_kept_in_the_users_cache_folder(root, tmp_path):
    summary = run(root, COMPILE, XDG_CACHE_HOME=str(tmp_path), MLIP_COMPILATION_CACHE=None)
    (folder,) = (tmp_path / "mlip").iterdir()
    assert any(folder.iterdir())
    assert str(folder) in summary
    assert "up to float32" in summary


def test_the_cache_can_be_switched_off(root, tmp_path):
    summary = run(root, COMPILE, XDG_CACHE_HOME=str(tmp_path), MLIP_COMPILATION_CACHE="OFF")
    assert not any(tmp_path.iterdir())
    assert summary.endswith("compilation cache: off")


def test_the_cache_folder_can_be_chosen(root, tmp_path):
    run(root, COMPILE, MLIP_COMPILATION_CACHE=str(tmp_path / "here"))
    assert any((tmp_path / "here").iterdir())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(root, tmp_path):
    (tmp_path / "file").touch()
    summary = run(root, COMPILE, MLIP_COMPILATION_CACHE=str(tmp_path / "file" / "below"))
    assert summary.endswith("compilation cache: off")


def test_precision_and_threads(root):
    code = """
from mlip import runtime
runtime.prepare("float64", threads=1)
import jax.numpy as jnp
print(jnp.ones(3).dtype, runtime.num_threads(), runtime.summary())
"""
    said = run(root, code, MLIP_COMPILATION_CACHE="off", NPROC=None)
    assert said.startswith("float64 1 ")
    assert said.endswith("compilation cache: off")


def test_threads_after_the_start_are_refused():
    jax.devices()
    with pytest.raises(MlipError, match="before anything is computed"):
        runtime.set_threads(runtime.num_threads() + 1)


def test_threads_where_the_system_knows_no_affinity(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert runtime.num_threads() == os.cpu_count()


def test_a_number_of_threads_in_words_is_refused(monkeypatch):
    monkeypatch.setenv("NPROC", "two")
    with pytest.raises(MlipError, match="NPROC is 'two', expected a number of threads"):
        runtime.num_threads()


COUNT_PAGE_FAULTS = """
import resource, jax, jax.numpy as jnp
from mlip import runtime
runtime.prepare()
f = jax.jit(lambda x: jnp.sum(jnp.sin(x) @ (jnp.sin(x).T @ x[:, :8])))
x = jnp.ones((2000, 2000), jnp.float32)
faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_intermediate_arrays_are_not_mapped_afresh_by_every_call(root):
    """One such array of 16 MB alone is 4000 pages; left to the user, they all come back."""
    assert int(run(root, COUNT_PAGE_FAULTS)) < 1000
    assert int(run(root, COUNT_PAGE_FAULTS, MALLOC_MMAP_MAX_="65536")) > 4000
