"""Radial bases, cutoff envelopes, distance transforms and the radial network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import pi, sqrt

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mlip.nn.normalization import EquivariantLayerNorm

# Second-moment constant of SiLU, 1/√E[silu(z)²] for normal z, as e3nn's sampled estimate gives it:
# the exact integral differs in the fourth digit and would not reproduce MACE's published weights.
SILU_SCALE = 1.6791767923989418

# Parameters of the Agnesi transform: Witt et al., J. Chem. Phys. 159, 164101 (2023), as in MACE.
AGNESI_Q, AGNESI_P, AGNESI_A = 0.9183, 4.5791, 1.0805

# Added to the width of every Gaussian, so that none can become zero.
MIN_WIDTH = 1e-5


def scaled_silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """SiLU rescaled to unit second moment for normally distributed input."""
    return SILU_SCALE * jax.nn.silu(x)


def polynomial_envelope(
    distance: Float[Array, "..."], cutoff: Float[Array, "..."] | float, power: int
) -> Float[Array, "..."]:
    """Polynomial that falls from 1 at zero to 0 at the cutoff, where two derivatives vanish too.

        f(x) = 1 − (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) − p(p+1)/2 x^(p+2),  x = r / r_c < 1

    Args:
        distance: Å.
        cutoff: Å.
        power: p; at zero p − 1 derivatives vanish, and the larger p is, the later it falls.

    Source: Gasteiger et al., ICLR 2020, eq. 8.
    """
    p = float(power)
    x = distance / cutoff
    inside = x < 1.0
    x = jnp.where(inside, x, jnp.ones_like(x))
    xp = x**power
    value = 1.0 - xp * (
        (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * x + p * (p + 1.0) / 2.0 * x * x
    )
    return jnp.where(inside, value, jnp.zeros_like(value))


def bessel_basis(
    distance: Float[Array, "..."], cutoff: float, num_basis: int
) -> Float[Array, "... num_basis"]:
    """Spherical Bessel functions of order zero: √(2/r_c) · sin(nπ r/r_c) / r, n = 1..num_basis.

    Args:
        distance: non-zero; Å, or a transformed distance.
        cutoff: Å.
        num_basis: number of functions.

    Source: Gasteiger et al., ICLR 2020, eq. 7.
    """
    r = distance[..., None]
    n = jnp.arange(1, num_basis + 1, dtype=distance.dtype).reshape((1,) * (r.ndim - 1) + (-1,))
    return sqrt(2.0 / cutoff) * jnp.sin(n * (pi / cutoff) * r) / r


def agnesi_transform(
    distance: Float[Array, "..."], equilibrium: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Map distances to (0, 1) with most resolution around bond lengths.

        y(r) = 1 / (1 + a s^q / (1 + s^(q−p))),  s = r / r_0

    Args:
        distance: Å.
        equilibrium: r_0 of each pair, half the sum of the covalent radii, Å.

    Source: Witt et al., J. Chem. Phys. 159, 164101 (2023).
    """
    s = distance / equilibrium
    return 1.0 / (1.0 + AGNESI_A * s**AGNESI_Q / (1.0 + s ** (AGNESI_Q - AGNESI_P)))


class RadialMLP(nnx.Module):
    """Bias-free network from radial features to per-edge weights, in e3nn's normalisation.

    Hidden layers are SiLU of unit second moment; weights are normal and divided by √fan-in when
    used.

    Args:
        widths: layer widths, input and output included.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.weights = nnx.List(
            [
                nnx.Param(jax.random.normal(rngs.params(), (fan_in, fan_out), dtype))
                for fan_in, fan_out in itertools.pairwise(widths)
            ]
        )

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... weights"]:
        """Per-edge weights of shape (..., widths[-1])."""
        last = len(self.weights) - 1
        leading = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])  # one GEMM, and one for each derivative
        for index, weight in enumerate(self.weights):
            x = x @ (weight[...] * (1.0 / sqrt(weight.shape[0])))
            if index < last:
                x = scaled_silu(x)
        return x.reshape(*leading, -1)


class GaussianBasis(nnx.Module):
    """Normal densities of the scaled distance, with trainable centres and widths.

        g_k = exp(−((t − μ_k)/σ_k)²/2) / (√(2π) σ_k),  t = w r/r_c + b

    Initially w = 1, b = 0, μ_k is uniform in (0, 1) and σ_k in (1/K, 1).

    Args:
        cutoff: r_c, Å.
        num_basis: K.
        rngs: source of the initial centres and widths.
        dtype: floating-point type.

    Source: Lin et al., tensor decomposition networks (2025).
    """

    def __init__(self, cutoff: float, num_basis: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.cutoff = cutoff
        shape = (num_basis,)
        self.slope = nnx.Param(jnp.ones((), dtype))
        self.offset = nnx.Param(jnp.zeros((), dtype))
        self.center = nnx.Param(jax.random.uniform(rngs.params(), shape, dtype))
        self.width = nnx.Param(
            jax.random.uniform(rngs.params(), shape, dtype, minval=1.0 / num_basis, maxval=1.0)
        )

    def __call__(self, distance: Float[Array, "..."]) -> Float[Array, "... num_basis"]:
        """Values at distances, Å."""
        t = (self.slope[...] * (distance * (1.0 / self.cutoff)) + self.offset[...])[..., None]
        leading = (1,) * distance.ndim
        width = (jnp.abs(self.width[...]) + MIN_WIDTH).reshape(*leading, -1)
        z = (t - self.center[...].reshape(*leading, -1)) / width
        return jnp.exp(-0.5 * z * z) * (1.0 / sqrt(2.0 * pi)) / width


class NormalizedRadialMLP(nnx.Module):
    """Network from radial features to per-edge weights with layer normalisation and an offset.

    Hidden layers are linear with bias, layer normalisation, SiLU; the last one has no bias but an
    offset that starts uniform in ±1/√fan-in.

    Args:
        widths: layer widths, input and output included.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Source: Lin et al., tensor decomposition networks (2025), after Liao and Smidt, ICLR 2023.
    """

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        pairs = list(itertools.pairwise(widths))
        self.weights = nnx.List(
            [nnx.Param(jax.random.normal(rngs.params(), pair, dtype)) for pair in pairs]
        )
        hidden = widths[1:-1]
        self.biases = nnx.List([nnx.Param(jnp.zeros((width,), dtype)) for width in hidden])
        # Features without direction: a layer normalisation of degree 0 alone.
        self.norms = nnx.List([EquivariantLayerNorm(0, width, dtype=dtype) for width in hidden])
        limit = 1.0 / sqrt(widths[-2])
        self.offset = nnx.Param(
            jax.random.uniform(rngs.params(), (widths[-1],), dtype, minval=-limit, maxval=limit)
        )

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... weights"]:
        """Per-edge weights of shape (..., widths[-1])."""
        leading = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])  # one GEMM, and one for each derivative
        *hidden, last = self.weights
        for weight, bias, norm in zip(hidden, self.biases, self.norms, strict=True):
            x = x @ (weight[...] * (1.0 / sqrt(weight.shape[0]))) + bias[...][None]
            x = jax.nn.silu(norm(x[:, None])[:, 0])
        x = x @ (last[...] * (1.0 / sqrt(last.shape[0]))) + self.offset[...][None]
        return x.reshape(*leading, -1)
