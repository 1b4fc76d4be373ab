"""The layout of equivariant features and the coupling coefficients, stated once.

Features are real arrays `[..., (L+1)², channels]`: degrees 0..L in order, orders m = −l..l within a
degree, natural parity (−1)^l. Harmonics and Clebsch–Gordan coefficients follow e3nn: component
normalisation, polar axis y, so that degree 1 is (x, y, z).
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import e3nn_jax
import numpy as np


def dim(lmax: int) -> int:
    """Number of components of degrees 0..lmax: (lmax + 1)²."""
    return (lmax + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Where the components of one degree lie in the feature axis."""
    return slice(degree**2, (degree + 1) ** 2)


def reflection_class(lmax: int) -> np.ndarray:
    """Parity of each real harmonic under the reflections of x, y and z.

    Args:
        lmax: highest degree.

    Returns:
        int, shape ((lmax + 1)²,): bit 2 is set if the component is odd in x, bit 1 in y, bit 0
        in z. The class of a product is the exclusive or of the classes.
    """
    classes = []
    for degree in range(lmax + 1):
        for order in range(-degree, degree + 1):
            m = abs(order)
            odd_x = order < 0
            odd_y = (degree - m) % 2
            odd_z = (m - odd_x) % 2
            classes.append(4 * odd_x + 2 * odd_y + odd_z)
    return np.array(classes)


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real coupling coefficients of unit Frobenius norm, symmetric under exchange up to a sign.

    The sign of each triple is a convention, and trained weights depend on it. For an even sum
    l1+l2+l3 it is e3nn-jax's; for an odd one it is that of e3nn for torch: the first non-zero
    number of the block with l1 ≤ l2 ≤ l3 is positive, and exchanging two degrees changes the sign.

    Args:
        l1: degree of the first factor.
        l2: degree of the second factor.
        l3: degree of the product.

    Returns:
        float64, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), read-only.
    """
    degrees = (l1, l2, l3)
    order = sorted(range(3), key=degrees.__getitem__)
    block = _canonical_block(*sorted(degrees))
    if _is_odd_permutation(order) and sum(degrees) % 2:
        block = -block
    result = np.transpose(block, np.argsort(order))
    result.setflags(write=False)
    return result


@cache
def _canonical_block(l1: int, l2: int, l3: int) -> np.ndarray:
    block = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3), dtype=np.float64)
    block = block / np.linalg.norm(block)
    block[np.abs(block) < 1e-14] = 0.0
    if (l1 + l2 + l3) % 2 == 0:
        return block
    first = block.ravel()[np.flatnonzero(block)[0]]
    return block * np.sign(first)


def _is_odd_permutation(order: list[int]) -> bool:
    inversions = sum(order[i] > order[j] for i in range(3) for j in range(i + 1, 3))
    return inversions % 2 == 1


class Path(NamedTuple):
    """One coupling l1 ⊗ l2 → l3."""

    l1: int
    l2: int
    l3: int


def coupling_paths(
    lmax1: int, lmax2: int, lmax3: int, paths: Literal["even", "odd"] = "even"
) -> tuple[Path, ...]:
    """Couplings whose degrees have an even (or an odd) sum, ordered by l3, then l1, then l2.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        lmax3: highest degree of the product.
        paths: `even` for those that keep natural parity, `odd` for those that turn it.
    """
    found = [
        Path(l1, l2, l3)
        for l1 in range(lmax1 + 1)
        for l2 in range(lmax2 + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, lmax3) + 1)
        if (l1 + l2 + l3) % 2 == (paths == "odd")
    ]
    return tuple(sorted(found, key=lambda path: (path.l3, path.l1, path.l2)))
