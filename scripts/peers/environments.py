"""Environments of other projects, made once under `.venvs/`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GRAPHS = ["ase==3.29.0", "lmdb==3.0.0", "torch==2.13.0"]  # what scripts/oc20_graphs.py imports

# The releases that are compared with, or that write files in their own format. A CPU build of torch
# is enough; which build `pip` takes is decided by its own configuration.
REQUIREMENTS = {
    "mace-torch": ["mace-torch==0.3.16", "torch==2.13.0", "safetensors"],
    "instadeep": ["mlip==0.2.5"],
    "torch-geometric-1": ["torch-geometric==1.7.2", *GRAPHS, "six"],  # six: not declared by 1.7.2
    "torch-geometric-2": ["torch-geometric==2.8.1", *GRAPHS],
}


def interpreter(peer: str, given: Path | None = None) -> Path:
    """The Python of a peer's environment, which is made when it is absent.

    Args:
        peer: a key of `REQUIREMENTS`.
        given: an interpreter that has the peer installed already.
    """
    if given is not None:
        return given
    folder = ROOT / ".venvs" / peer
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"making {folder.relative_to(ROOT)}: {' '.join(REQUIREMENTS[peer])}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS[peer]], check=True)
        ready.touch()
    return python
