"""Decompositions of the fused coupling tensor into few products of three vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

EXACT = 1e-12  # relative residual below which a decomposition counts as exact

FIRST_NORM = 0.3  # of the initial columns
FIRST_DAMPING, LAST_DAMPING, DECAY = 1.0, 1e-14, 0.99
SHRINKAGE = 0.003  # keeps vectors short that cancel; more of it leads to worse local minima
CONVERGED = 1e-13  # relative residual
CHECK_EVERY, STALLED = 100, 0.98  # sweeps; what is left of the residual after so many
MAY_STALL = 1e-6  # damping above which sweeps go on in any case
MOST_SWEEPS = 20_000


class CPFactors(NamedTuple):
    """Vectors of a decomposition M_ijk ≈ Σ_r first_ir second_jr third_kr, in float64."""

    first: Float[np.ndarray, "d1 R"]
    second: Float[np.ndarray, "d2 R"]
    third: Float[np.ndarray, "d3 R"]

    @property
    def rank(self) -> int:
        """Number of products."""
        return self.first.shape[1]

    @property
    def largest_column_norm(self) -> float:
        """Of all vectors; far above 1 where large products cancel."""
        return float(max(np.linalg.norm(factor, axis=0).max() for factor in self))

    def tensor(self) -> Float[np.ndarray, "d1 d2 d3"]:
        """What the products add up to."""
        d1, d2, d3 = (len(factor) for factor in self)
        return (_khatri_rao(self.first, self.second) @ self.third.T).reshape(d1, d2, d3)

    def residual(self, tensor: Float[np.ndarray, "d1 d2 d3"]) -> float:
        """‖tensor − Σ‖ / ‖tensor‖ in the Frobenius norm."""
        return float(np.linalg.norm(self.tensor() - tensor) / np.linalg.norm(tensor))

    def sha256(self) -> str:
        """Hash of the numbers, first to third, as little-endian float64 in C order."""
        content = b"".join(np.ascontiguousarray(factor, "<f8").tobytes() for factor in self)
        return hashlib.sha256(content).hexdigest()

    def fingerprint(self) -> str:
        """Short hash of what the products add up to, alike for sums that differ by rounding."""
        rounded = np.round(self.tensor(), 6) + 0.0  # no negative zeros
        return hashlib.sha256(rounded.astype("<f8").tobytes()).hexdigest()[:12]


def alternating_least_squares(
    tensor: Float[np.ndarray, "d1 d2 d3"], rank: int, seed: int
) -> CPFactors:
    """Fit a decomposition by regularised, accelerated alternating least squares.

        F_n ← (M_(n) K + λ F_n) (G + (1 + ε) λ 1)⁻¹,

    where M_(n) is the unfolding of slot n, K the Khatri–Rao product of the other two factors and G
    the elementwise product of their Gram matrices: the least squares with the penalty
    λ (‖F_n − its old value‖² + ε ‖F_n‖²). λ falls by 1 % in each sweep over the slots, after which
    the three vectors of each product are rescaled to equal norms. The next sweep starts from a
    point extrapolated along the last step, as in Nesterov's method, anew whenever the residual has
    grown. Ends when the residual is at rounding or stalls.

    Args:
        tensor: float64.
        rank: number of products.
        seed: of the initial factors, which are normally distributed.

    Source of the acceleration: Mitchell, Ye & De Sterck, Numer. Linear Algebra Appl. 27 (2020)
    e2297.
    """
    rng = np.random.default_rng(seed)
    current = [rng.normal(scale=FIRST_NORM / np.sqrt(d), size=(d, rank)) for d in tensor.shape]
    unfoldings = [
        np.ascontiguousarray(np.moveaxis(tensor, slot, 0).reshape(d, -1))
        for slot, d in enumerate(tensor.shape)
    ]
    damping, previous, checked = FIRST_DAMPING, np.inf, np.inf
    start, steps = current, 0
    for sweep in range(1, MOST_SWEEPS + 1):
        following = _sweep(start, unfoldings, damping)
        residual = CPFactors(*following).residual(tensor)
        steps = steps + 1 if residual < previous else 0
        momentum = steps / (steps + 3)
        start = [new + momentum * (new - old) for new, old in zip(following, current, strict=True)]
        current, previous = following, residual
        if residual < CONVERGED:
            break
        if sweep % CHECK_EVERY == 0:
            if damping < MAY_STALL and residual > STALLED * checked:
                break
            checked = residual
        damping = max(damping * DECAY, LAST_DAMPING)
    return CPFactors(*(np.ascontiguousarray(factor) for factor in current))


def best_fit(
    tensor: Float[np.ndarray, "d1 d2 d3"], rank: int, seeds: Iterable[int]
) -> tuple[CPFactors, int]:
    """The first exact decomposition of several seeds, or else the one of least residual.

    Args:
        tensor: float64.
        rank: number of products.
        seeds: tried in turn.

    Returns:
        the decomposition and its seed.
    """
    fits = []
    for seed in seeds:
        factors = alternating_least_squares(tensor, rank, seed)
        fits.append((factors.residual(tensor), seed, factors))
        if fits[-1][0] < EXACT:
            break
    _, seed, factors = min(fits, key=lambda fit: fit[0])
    return factors, seed


def _khatri_rao(
    one: Float[np.ndarray, "m R"], other: Float[np.ndarray, "n R"]
) -> Float[np.ndarray, "mn R"]:
    """Products of the columns, one by one."""
    return (one[:, None] * other).reshape(-1, one.shape[1])


def _sweep(
    factors: list[np.ndarray], unfoldings: list[np.ndarray], damping: float
) -> list[np.ndarray]:
    """One update of each factor in turn, then equal norms."""
    factors = list(factors)
    for slot, unfolding in enumerate(unfoldings):
        one, other = (factors[n] for n in range(3) if n != slot)
        gram = (one.T @ one) * (other.T @ other)
        gram.flat[:: len(gram) + 1] += (1 + SHRINKAGE) * damping
        right = unfolding @ _khatri_rao(one, other) + damping * factors[slot]
        factors[slot] = np.linalg.solve(gram, right.T).T
    return _balance(factors)


def _balance(factors: list[np.ndarray]) -> list[np.ndarray]:
    """The same products from vectors of equal norms."""
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    common = np.prod(norms, axis=0) ** (1 / 3)
    scales = np.divide(common, norms, out=np.zeros_like(norms), where=norms > 0)
    return [factor * scale for factor, scale in zip(factors, scales, strict=True)]
