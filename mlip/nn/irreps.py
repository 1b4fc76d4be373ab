"""The layout of equivariant features and the coupling coefficients, stated once.

Features are real arrays `[..., (L+1)², channels]`: degrees 0..L in order, orders m = −l..l within a
degree, natural parity (−1)^l. Harmonics and Clebsch–Gordan coefficients follow e3nn: component
normalisation, polar axis y, so that degree 1 is (x, y, z).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import e3nn_jax
import numpy as np


def dim(lmax: int) -> int:
    """Number of components of degrees 0..lmax: (lmax + 1)²."""
    return (lmax + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Where the components of one degree lie in the feature axis."""
    return slice(degree**2, (degree + 1) ** 2)


@lru_cache(maxsize=None)
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real coupling coefficients of unit Frobenius norm (e3nn's `wigner_3j`).

    Args:
        l1: degree of the first factor.
        l2: degree of the second factor.
        l3: degree of the product.

    Returns:
        float64, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), read-only.
    """
    coefficients = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3), dtype=np.float64)
    coefficients = coefficients / np.linalg.norm(coefficients)
    coefficients[np.abs(coefficients) < 1e-14] = 0.0
    coefficients.setflags(write=False)
    return coefficients


class Path(NamedTuple):
    """One coupling l1 ⊗ l2 → l3."""

    l1: int
    l2: int
    l3: int


def even_paths(lmax1: int, lmax2: int, lmax3: int) -> tuple[Path, ...]:
    """Parity-conserving paths (l1 + l2 + l3 even), ordered by l3, then l1, then l2."""
    paths = [
        Path(l1, l2, l3)
        for l1 in range(lmax1 + 1)
        for l2 in range(lmax2 + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, lmax3) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    return tuple(sorted(paths, key=lambda path: (path.l3, path.l1, path.l2)))
