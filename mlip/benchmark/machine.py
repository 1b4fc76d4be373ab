"""The machine that times were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import jax

from mlip.runtime import num_threads


def describe_machine() -> dict[str, Any]:
    """Device, processor, cores, threads, caches and memory, as far as the system tells them."""
    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": num_threads(),
        "caches": _caches(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _caches() -> dict[str, str]:
    """Size of each cache that the first core sees, such as {"L1 data": "48K"}."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ("".join(_lines(folder / name)) for name in ("level", "type", "size"))
        if size and kind != "Instruction":
            found[f"L{level} {kind.lower()}"] = size
    return found


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
