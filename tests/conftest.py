"""Strict JAX for every test, a deterministic hypothesis, and the optional reference data."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST_CACHE = ROOT / ".cache" / "jax-tests"

# Processes that tests start share the cache of compiled programs with the tests themselves.
os.environ.setdefault("MLIP_COMPILATION_CACHE", str(TEST_CACHE))
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile much and compute little: without optimisation they take half the time.
FLAGS = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in FLAGS:
    FLAGS += " --xla_backend_optimization_level=0"
    # Of the time that is left, jaxlib 0.10 spends half on its newer way to emit fused loops. Later
    # versions have no such switch, and end at one that they do not know.
    if version("jaxlib").startswith("0.10."):
        FLAGS += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = FLAGS

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", os.environ["MLIP_COMPILATION_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


MAPS = Path("/proc/self/maps")
MANY_MAPS = 30_000  # Linux allows a process 65,530, and a compiler that gets no more crashes


@pytest.fixture(autouse=True, scope="module")
def few_memory_mappings():
    """Every compiled program takes some mappings of memory: let those go that nobody holds."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data that lie beside the repository on some machines."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data beside the repository ({folder})")
    return folder
