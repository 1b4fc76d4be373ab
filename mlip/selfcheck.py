"""A check at start-up that this installation of JAX computes right numbers.

Some releases are silently wrong on the CPU: jax 0.10.2 returns other numbers from a jitted,
vectorised sum of squares than from the same operation on each row, above 16,384 rows in double
and 32,768 rows in single precision. A potential trained or evaluated there is garbage without
any error, so the versions known to be bad are refused by name and the arithmetic itself is
compared with NumPy's, which catches the next such release.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from mlip.errors import MlipError

ROWS = 33_793  # wrong in both precisions with jax 0.10.2; 32,768 rows or fewer are not enough
EXCLUDED = {
    "0.10.2": "it computes wrong numbers on the CPU",
    "0.11": "it crashes on high-rank reductions or breaks flax",
}
REMEDY = "install jax and jaxlib 0.10.1, or on Python 3.12 and newer 0.12 or later"


def run() -> None:
    """Refuse an unsafe JAX, once per process and precision; takes about 0.1 s.

    Raises:
        MlipError: for an excluded version, or when jitted arithmetic disagrees with NumPy's.
    """
    check_version("jax", jax.__version__)
    check_version("jaxlib", jaxlib.__version__)
    check_arithmetic("float32")
    if jax.config.jax_enable_x64:
        check_arithmetic("float64")


def check_version(package: str, version: str) -> None:
    """Refuse a version that is known to be unsafe.

    Raises:
        MlipError: naming the version, its fault, and the versions to install instead.
    """
    for excluded, fault in EXCLUDED.items():
        if version == excluded or version.startswith(excluded + "."):
            raise MlipError(f"{package} {version} cannot be used: {fault}; {REMEDY}.")


@cache
def check_arithmetic(dtype: str) -> None:
    """Compare f(x) = Σ_i (M x)_i² over many rows x, jitted, with NumPy's result.

    Args:
        dtype: "float32" or "float64".

    Raises:
        MlipError: when they differ by more than rounding, naming the jax version.
    """
    error = relative_error(dtype)
    if not error < 1000 * np.finfo(dtype).eps:
        raise MlipError(
            f"jax {jax.__version__} with jaxlib {jaxlib.__version__} computes wrong numbers on "
            f"this machine's {jax.default_backend()} ({dtype}, relative error {error:.1e} in a "
            f"jitted sum of squares): nothing it computes can be trusted; {REMEDY}."
        )


def relative_error(dtype: str) -> float:
    """Largest error of the jitted sum of squares, relative to the largest value."""
    random = np.random.default_rng(0)
    matrix = random.standard_normal((3, 3)).astype(dtype)
    rows = random.standard_normal((ROWS, 3)).astype(dtype)
    jitted = jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(matrix @ row))))
    found = np.asarray(jitted(rows), dtype=np.float64)
    expected = np.sum(np.square(rows.astype(np.float64) @ matrix.astype(np.float64).T), axis=1)
    return float(np.max(np.abs(found - expected)) / np.max(expected))
