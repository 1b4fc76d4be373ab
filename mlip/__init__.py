"""Machine-learning interatomic potentials in JAX.

`mlip.load("model.mlip")` gives a `Potential`; everything else is reached by its module path.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlip.potential import Potential

__version__ = "0.1.0"
__all__ = ["Potential", "__version__", "load"]

# XLA reports tuning hints of cached programs ("prefer-no-gather") as errors of a foreign machine,
# some forty lines at a time; what truly fails is raised as an exception. Read when JAX is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def load(path: str | os.PathLike[str]) -> Potential:
    """Read a saved model.

    The first call of a process checks that this machine's JAX computes right numbers, turns on
    the cache of compiled programs, and tells glibc to keep freed memory for the next call
    (`mlip.runtime`).

    Args:
        path: a `.mlip` file.

    Raises:
        MlipError: when the file is missing or damaged, or JAX computes wrong numbers.
    """
    from mlip import runtime
    from mlip.io.saved_model import load as read

    runtime.prepare()
    return read(path)


def __getattr__(name: str) -> Any:
    # Potential pulls in JAX, which takes a second to import: only those who ask for it wait.
    if name == "Potential":
        from mlip.potential import Potential

        return Potential
    raise AttributeError(f"module 'mlip' has no attribute {name!r}")


def _warn_of_namesake(folder: Path) -> None:
    """Warn when the other distribution that is imported as `mlip` shares `folder` with this one."""
    for metadata in sorted(folder.glob("mlip-*.dist-info")):
        warnings.warn(
            f"two packages are installed over each other: jax-mlip (this one) and "
            f"{metadata.name.removesuffix('.dist-info')}, another project that is also imported "
            f"as 'mlip', both in {folder}. Each has overwritten files of the other: uninstall "
            f"both (pip uninstall mlip jax-mlip) and install one of them in an environment of "
            f"its own.",
            stacklevel=2,
        )


_warn_of_namesake(Path(__file__).resolve().parent.parent)
