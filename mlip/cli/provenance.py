"""Where a model comes from: what is recorded in a saved file beside its weights."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import mlip

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "e3nn-jax", "numpy", "ase", "vesin")


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that results depend on."""
    found = {"jax-mlip": mlip.__version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found
