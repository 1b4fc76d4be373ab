"""Selecting and summing components along the second-to-last axis, fast in both directions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def take_components(
    x: Float[Array, "... d T"], index: tuple[int, ...], size: int
) -> Float[Array, "... k T"]:
    """`x[..., index, :]` for a constant index.

    The derivative of a plain gather is a scatter, slower on a CPU than the matrix product with
    zeros and ones used here. Reverse mode of any order works; forward mode does not.

    Args:
        x: its second-to-last axis has length `size`.
        index: constant positions.
        size: d.
    """
    del size
    return x[..., np.array(index), :]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def sum_components(
    x: Float[Array, "... k T"], index: tuple[int, ...], size: int
) -> Float[Array, "... d T"]:
    """Add component k of `x` to component index[k] of a zero array: the adjoint of taking.

    Args:
        x: its second-to-last axis has the length of `index`.
        index: constant positions below `size`.
        size: d.
    """
    sums = np.arange(size)[:, None] == np.array(index)
    matrix = jnp.broadcast_to(jnp.asarray(sums, x.dtype), (*x.shape[:-2], *sums.shape))
    return matrix @ x


def _take_forward(
    x: Float[Array, "... d T"], index: tuple[int, ...], size: int
) -> tuple[Float[Array, "... k T"], None]:
    return take_components(x, index, size), None


def _take_backward(
    index: tuple[int, ...], size: int, _: None, cotangent: Float[Array, "... k T"]
) -> tuple[Float[Array, "... d T"]]:
    return (sum_components(cotangent, index, size),)


def _sum_forward(
    x: Float[Array, "... k T"], index: tuple[int, ...], size: int
) -> tuple[Float[Array, "... d T"], None]:
    return sum_components(x, index, size), None


def _sum_backward(
    index: tuple[int, ...], size: int, _: None, cotangent: Float[Array, "... d T"]
) -> tuple[Float[Array, "... k T"]]:
    return (take_components(cotangent, index, size),)


take_components.defvjp(_take_forward, _take_backward)
sum_components.defvjp(_sum_forward, _sum_backward)
