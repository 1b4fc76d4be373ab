"""What is set once per process: precision, threads, the cache of compiled programs, self-check."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from pathlib import Path
from typing import Literal

import jax

from mlip import selfcheck
from mlip.errors import MlipError

Precision = Literal["float32", "float64"]
CACHE_SWITCH = "MLIP_COMPILATION_CACHE"
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # options of mallopt, from malloc.h


def prepare(precision: Precision = "float32", threads: int | None = None) -> None:
    """Make JAX ready to compute; later calls in a process cost nothing.

    Args:
        precision: "float64" turns on JAX's 64-bit mode; "float32" leaves it as it is.
        threads: number of CPU threads; None leaves the choice to XLA, which takes every core.

    Raises:
        MlipError: when JAX computes wrong numbers, or the threads come too late.
    """
    if threads is not None:
        set_threads(threads)
    keep_freed_memory()
    enable_precision(precision)
    enable_compilation_cache()
    selfcheck.run()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next call instead of returning it to the system.

    XLA's CPU backend allocates the intermediate arrays of every call anew. By default glibc maps
    such large blocks afresh each time, and the kernel clears them page by page: a quarter of a
    training step. Elsewhere than under glibc nothing happens. MALLOC_MMAP_MAX_ in the environment
    shows that the user has decided otherwise.
    """
    if platform.libc_ver()[0] != "glibc" or "MALLOC_MMAP_MAX_" in os.environ:
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_ARENA_MAX, 1)  # arenas of threads hold no large blocks
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def enable_precision(precision: Precision) -> None:
    """Turn on JAX's 64-bit mode when `precision` needs it; never turn it off."""
    if precision == "float64":
        jax.config.update("jax_enable_x64", True)


def set_threads(threads: int) -> None:
    """Limit the CPU threads that XLA computes with; must come before anything is computed.

    Raises:
        MlipError: when JAX has already started with another number of threads.
    """
    if threads == num_threads():
        return
    if _backend_started():
        raise MlipError(
            f"cannot set {threads} threads: JAX has already started with {num_threads()} in this "
            f"process; set the number of threads before anything is computed."
        )
    os.environ["NPROC"] = str(threads)  # XLA reads the size of its thread pool from here


def num_threads() -> int:
    """CPU threads that XLA computes with.

    Raises:
        MlipError: when NPROC in the environment, which XLA reads, is not a number.
    """
    text = os.environ.get("NPROC", "")
    if text and not text.isdecimal():
        raise MlipError(
            f"the environment variable NPROC is {text!r}, expected a number of threads; correct "
            "or unset it."
        )
    if text and int(text) > 0:
        return int(text)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs on disk, so that the next process need not compile them again.

    The folder is `~/.cache/mlip/` (or `$XDG_CACHE_HOME/mlip/`), below it one per kind of
    processor. The environment variable MLIP_COMPILATION_CACHE names another one, or `off`.
    A cache that JAX has been told of by other means (JAX_COMPILATION_CACHE_DIR) is left alone.

    Returns:
        The folder in use, or None when the cache is off or its folder cannot be written.
    """
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    folder = compilation_cache_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home costs compile time, nothing else; `summary` says so
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def compilation_cache_folder() -> Path | None:
    """Where compiled programs are kept, or None when the user has turned the cache off."""
    choice = os.environ.get(CACHE_SWITCH, "")
    if choice.lower() == "off":
        return None
    if choice:
        return Path(choice).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "mlip" / f"xla-{_processor()}"


def summary() -> str:
    """Device, precision, threads, versions and cache in one line."""
    device = jax.devices()[0]
    precision = "float64" if jax.config.jax_enable_x64 else "float32"
    cache = jax.config.jax_compilation_cache_dir or "off"
    threads = f", {num_threads()} threads" if device.platform == "cpu" else ""
    return (
        f"{device.device_kind} ({device.platform}{threads}), up to {precision}, "
        f"jax {jax.__version__}, compilation cache: {cache}"
    )


def _processor() -> str:
    """A short name of this kind of processor.

    A home folder shared by unlike machines must not hand a program compiled for one processor's
    instructions to another.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = platform.processor()
    features = next(
        (line for line in text.splitlines() if line.startswith(("flags", "Features"))), text
    )
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"


def _backend_started() -> bool:
    from jax._src import xla_bridge  # jax has no public way to ask this without starting one

    return bool(xla_bridge.backends_are_initialized())
