"""Environments of other projects, made once under `.venvs/`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The releases that are compared with. A CPU build of torch is enough; which build `pip` takes
# is decided by its own configuration.
REQUIREMENTS = {
    "mace-torch": ["mace-torch==0.3.16", "torch==2.13.0", "safetensors"],
    "instadeep": ["mlip==0.2.5"],
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
