"""A random order of any number of things, computed place by place instead of being stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROUNDS = 8  # four make a Feistel network pseudo-random; small halves need more
FACTOR = np.uint64(0xD6E8FEB86659FD93)  # odd, with bits set in no pattern


def shuffled(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
    """What stands at some places of a random order of 0, 1, …, size − 1.

    A Feistel network permutes the numbers of an even number of bits 2h with 2^2h ≥ size; values
    of `size` and above are permuted again until they are below (cycle walking), which leaves a
    permutation of the numbers below `size`. Nothing is stored, however large `size` is.

    Args:
        places: integers of any shape, each at least 0 and below `size`.
        size: number of things.
        key: integers that name the order, such as (seed, epoch).

    Returns:
        int64 array of the shape of `places`; different places give different values.

    Source: Luby and Rackoff, SIAM J. Comput. 17, 373 (1988); Black and Rogaway, CT-RSA 2002.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    keys = np.random.SeedSequence([*key, size]).generate_state(ROUNDS, np.uint64)
    values = _permute(np.asarray(places, dtype=np.uint64), half, keys)
    outside = values >= size
    while outside.any():
        values[outside] = _permute(values[outside], half, keys)
        outside = values >= size
    return values.astype(np.int64)


def _permute(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """The Feistel network: (left, right) → (right, left ⊕ f(right)), once per key."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread every bit over all others (multiplications wrap around)."""
    shift = np.uint64(32)
    for _ in range(2):
        values = (values ^ (values >> shift)) * FACTOR
    return values ^ (values >> shift)
