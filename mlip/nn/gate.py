"""The gate: scalars through a nonlinearity, higher degrees scaled by further scalars."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.nn.radial import scaled_silu


def gate(parts: Sequence[Float[Array, "N _ _"]]) -> list[Float[Array, "N _ _"]]:
    """Apply φ(u) = c · silu(u), of unit second moment, to scalars and by scalars.

        y_0c = φ(x_0c),   y_lmc = φ(g_lc) x_lmc  for l > 0

    The gates g_lc are the last channels of degree 0, as many as all higher degrees have together,
    in their order.

    Args:
        parts: one array per degree, of shape (N, 2l+1, C_l); degree 0 has C_0 + Σ_{l>0} C_l
            channels.

    Returns:
        Arrays of the same shapes, degree 0 without the gates.

    Source: Weiler et al., NeurIPS 2018, section 4.3; Batzner et al., Nat. Commun. 13, 2453 (2022).
    """
    scalars, *higher = parts
    sizes = [part.shape[-1] for part in higher]
    kept = scalars.shape[-1] - sum(sizes)
    cuts = [kept + sum(sizes[:index]) for index in range(len(sizes))]
    activated, *gates = jnp.split(scaled_silu(scalars), cuts, axis=-1)
    return [activated, *(part * by for part, by in zip(higher, gates, strict=True))]
