"""Couplings of several copies of one feature to a single degree: the U tensors of MACE."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from mlip.nn.irreps import clebsch_gordan, degree_slice, dim


class _Coupling(NamedTuple):
    degree: int
    parity: int
    tensor: np.ndarray  # (2l+1, d, …, d)


@cache
def coupling_tensor(lmax: int, degree: int, correlation: int) -> np.ndarray:
    """All couplings of `correlation` copies of degrees 0..lmax to one natural-parity degree.

    The copies are coupled one after the other, every intermediate degree giving its own path;
    e3nn's "component" normalisation √(2l+1) is applied at each coupling. With four factors only
    intermediates of natural parity are kept, as MACE does to bound their number.

    Args:
        lmax: highest degree of the factors, which have natural parity.
        degree: degree of the result.
        correlation: number of factors ν.

    Returns:
        float64, shape (paths, 2·degree + 1, d, …, d) with ν axes of d = (lmax + 1)².

    Source: Batatia et al., NeurIPS 2022, eqs. 10–11.
    """
    natural = (-1) ** degree
    tensors = [
        coupling.tensor
        for coupling in _couplings(lmax, correlation, natural_only=correlation >= 4)
        if coupling.degree == degree and coupling.parity == natural
    ]
    return np.stack(tensors)


@cache
def _couplings(lmax: int, factors: int, *, natural_only: bool) -> list[_Coupling]:
    """Couplings of `factors` copies, ordered by degree, parity and then by construction."""
    if factors == 1:
        identity = np.eye(dim(lmax))
        return [_Coupling(l, (-1) ** l, identity[degree_slice(l)]) for l in range(lmax + 1)]
    result = [
        coupling
        for left in _couplings(lmax, factors - 1, natural_only=natural_only)
        for coupling in _couple_one_more(left, lmax)
        if not natural_only or coupling.parity == (-1) ** coupling.degree
    ]
    # Odd parity first at every degree: the order in which MACE numbers its paths.
    return sorted(result, key=lambda coupling: (coupling.degree, coupling.parity))


def _couple_one_more(left: _Coupling, lmax: int) -> Iterator[_Coupling]:
    flat = left.tensor.reshape(left.tensor.shape[0], -1)
    for l in range(lmax + 1):
        for degree in range(abs(left.degree - l), left.degree + l + 1):
            block = clebsch_gordan(left.degree, l, degree) * np.sqrt(2 * degree + 1)
            coupled = np.einsum("ap,abm->mpb", flat, block)
            tensor = np.zeros((2 * degree + 1, flat.shape[1], dim(lmax)))
            tensor[:, :, degree_slice(l)] = coupled
            shape = (2 * degree + 1, *left.tensor.shape[1:], dim(lmax))
            yield _Coupling(degree, left.parity * (-1) ** l, tensor.reshape(shape))


@cache
def monomials(variables: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """Sorted index tuples of all monomials of one degree."""
    return tuple(combinations_with_replacement(range(variables), degree))


@cache
def monomial_coefficients(lmax: int, degree: int, correlation: int) -> np.ndarray:
    """The couplings as homogeneous polynomials: coefficients of the sorted monomials.

    Since all factors are the same feature, coefficients of equal monomials are summed, which
    leaves C(d + ν − 1, ν) numbers instead of d^ν.

    Args:
        lmax: highest degree of the factors.
        degree: degree of the result.
        correlation: number of factors ν.

    Returns:
        float64, shape (paths, 2·degree + 1, monomials), read-only.
    """
    result = coupling_polynomials(coupling_tensor(lmax, degree, correlation))
    result.setflags(write=False)
    return result


def coupling_polynomials(tensor: np.ndarray) -> np.ndarray:
    """Couplings as coefficients of the sorted monomials.

    Args:
        tensor: shape (paths, components, d, …, d).

    Returns:
        Shape (paths, components, monomials).
    """
    d, correlation = tensor.shape[-1], tensor.ndim - 2
    position = {m: k for k, m in enumerate(monomials(d, correlation))}
    grid = np.indices((d,) * correlation).reshape(correlation, -1).T
    target = np.array([position[tuple(row)] for row in np.sort(grid, axis=1).tolist()])
    flat = tensor.reshape(-1, d**correlation)
    result = np.stack([np.bincount(target, weights=row, minlength=len(position)) for row in flat])
    result = result.reshape(*tensor.shape[:2], len(position))
    result[np.abs(result) < 1e-12] = 0.0
    return result
