"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def update_ema(
    average: Mapping[str, Array],
    params: Mapping[str, Array],
    decay: float,
    step: Int[Array, ""],
) -> dict[str, Array]:
    """One step of the average: a ← d a + (1 − d) p with d = min(decay, (1 + n) / (10 + n)).

    The smaller decay of the first steps forgets the initial weights quickly; it is that of
    torch_ema, which MACE uses.

    Args:
        average: the running average a.
        params: weights p after the optimiser step.
        decay: final decay.
        step: number n of this step, from 1.
    """

    def blend(a: Array, p: Array) -> Array:
        n = step.astype(p.dtype)
        d = jnp.minimum(jnp.asarray(decay, p.dtype), (1.0 + n) / (10.0 + n))
        return d * a + (1.0 - d) * p

    return jax.tree.map(blend, dict(average), dict(params))
