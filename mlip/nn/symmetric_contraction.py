"""MACE's symmetric contraction, evaluated as a polynomial by dense matrix products."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mlip.nn.generalized_cg import monomial_coefficients, monomials
from mlip.nn.irreps import degree_slice, dim


class SymmetricContraction(nnx.Module):
    """Many-body products of one feature with itself, weighted per element and channel.

        B_kLM = Σ_ν Σ_η w^ν_zkLη Σ_{m1…mν} U^{LM,η}_{m1…mν} A_km1 … A_kmν

    For fixed element and channel every component is a polynomial in the d = (lmax+1)² numbers A.
    It is evaluated in Horner form, Σ_i l_i(A) Σ_r M_ri r(A) with few left monomials l and all
    monomials r of the remaining degrees, so that the work is one batched matrix product.

    Args:
        lmax: highest degree of A.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors ν.
        num_elements: number of elements Z.
        channels: channels of A and of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Source: Batatia et al., NeurIPS 2022, eqs. 10–11.
    """

    def __init__(
        self,
        lmax: int,
        hidden_lmax: int,
        correlation: int,
        num_elements: int,
        channels: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        self.lmax, self.hidden_lmax, self.correlation = lmax, hidden_lmax, correlation
        self.weights = nnx.List(
            [
                nnx.List(
                    [
                        _initial_weight(lmax, degree, order, num_elements, channels, rngs, dtype)
                        for order in range(1, correlation + 1)
                    ]
                )
                for degree in range(hidden_lmax + 1)
            ]
        )

    def __call__(
        self, features: Float[Array, "N d channels"], species: Int[Array, "N"]
    ) -> Float[Array, "N d_out channels"]:
        """Contract A of shape (N, (lmax+1)², channels) to (N, (hidden_lmax+1)², channels)."""
        matrix = self._polynomial_matrix(features.dtype)
        num_elements = matrix.shape[0]
        tiles = _ElementTiles(species, num_elements)
        x = jnp.swapaxes(tiles.gather(features), 2, 3)  # (tiles, T, C, d)
        x = jnp.swapaxes(x, 1, 2)  # (tiles, C, T, d)
        left, right = _horner_monomials(x, self.correlation)
        partial = right @ matrix[tiles.element]  # (tiles, C, T, outputs · left)
        outputs = dim(self.hidden_lmax)
        partial = partial.reshape(*partial.shape[:-1], outputs, left.shape[-1])
        product = jnp.sum(partial * left[..., None, :], axis=-1)  # (tiles, C, T, outputs)
        return tiles.scatter(jnp.transpose(product, (0, 2, 3, 1)))

    def _polynomial_matrix(self, dtype: DTypeLike) -> Float[Array, "Z C right outputs_left"]:
        """Per-element weights contracted with the couplings, in Horner form."""
        parts = []
        for degree, orders in enumerate(self.weights):
            table = _horner_table(self.lmax, degree, self.correlation)
            weight = jnp.concatenate([w[...] for w in orders], axis=1)  # (Z, paths, C)
            weight = jnp.swapaxes(weight, 1, 2)  # (Z, C, paths)
            paths, right, columns = table.shape
            part = weight @ jnp.asarray(table.reshape(paths, right * columns), dtype)
            parts.append(part.reshape(*weight.shape[:2], right, columns))
        return jnp.concatenate(parts, axis=-1)


def _initial_weight(
    lmax: int,
    degree: int,
    order: int,
    num_elements: int,
    channels: int,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
) -> nnx.Param:
    paths = monomial_coefficients(lmax, degree, order).shape[0]
    draw = jax.random.normal(rngs.params(), (num_elements, paths, channels), dtype)
    return nnx.Param(draw / paths)


def _left_degree(correlation: int) -> int:
    """Degree of the left factors: the right ones then have degree at most two."""
    return max(1, correlation - 2)


@lru_cache(maxsize=None)
def _horner_table(lmax: int, degree: int, correlation: int) -> np.ndarray:
    """Polynomial coefficients of all orders, split into right and left monomials.

    Returns:
        float64, shape (paths of all orders, right monomials, (2·degree + 1) · left monomials).
    """
    d = dim(lmax)
    left_degree = min(_left_degree(correlation), correlation)
    lefts = _left_monomials(d, correlation)
    rights = _right_monomials(d, correlation)
    left_position = {m: k for k, m in enumerate(lefts)}
    right_position = {m: k for k, m in enumerate(rights)}
    tables = []
    for order in range(1, correlation + 1):
        coefficients = monomial_coefficients(lmax, degree, order)
        paths, components, _ = coefficients.shape
        table = np.zeros((paths, len(rights), components, len(lefts)))
        split = min(left_degree, order)
        for k, monomial in enumerate(monomials(d, order)):
            left, right = left_position[monomial[:split]], right_position[monomial[split:]]
            table[:, right, :, left] = coefficients[:, :, k]
        tables.append(table.reshape(paths, len(rights), components * len(lefts)))
    result = np.concatenate(tables)
    result.setflags(write=False)
    return result


def _left_monomials(variables: int, correlation: int) -> list[tuple[int, ...]]:
    degree = _left_degree(correlation)
    return [m for k in range(1, degree + 1) for m in monomials(variables, k)]


def _right_monomials(variables: int, correlation: int) -> list[tuple[int, ...]]:
    degree = min(correlation - 1, 2)
    return [m for k in range(degree + 1) for m in monomials(variables, k)]


def _horner_monomials(
    x: Float[Array, "... d"], correlation: int
) -> tuple[Float[Array, "... left"], Float[Array, "... right"]]:
    """Values of the left and right monomials."""
    d = x.shape[-1]
    left = _monomial_values(x, _left_monomials(d, correlation))
    return left, _monomial_values(x, _right_monomials(d, correlation))


def _monomial_values(
    x: Float[Array, "... d"], wanted: list[tuple[int, ...]]
) -> Float[Array, "... monomials"]:
    """Monomials of degree at most two as the product of two selections of (1, x).

    The selections are matrix products with constant 0/1 matrices: on a CPU a gather along the last
    axis costs ten times as much.
    """
    d = x.shape[-1]
    if wanted == monomials(d, 1):
        return x
    first, second = np.zeros((2, d + 1, len(wanted)))
    for k, monomial in enumerate(wanted):
        padded = (*(index + 1 for index in monomial), 0, 0)
        first[padded[0], k] = second[padded[1], k] = 1.0
    extended = jnp.concatenate([jnp.ones_like(x[..., :1]), x], axis=-1)
    return (extended @ jnp.asarray(first, x.dtype)) * (extended @ jnp.asarray(second, x.dtype))


class _ElementTiles:
    """Atoms regrouped into tiles of one element each, so that a tile shares its matrix.

    The number of tiles is static: at most floor(N / T) full ones and one begun for each element.
    """

    def __init__(self, species: Int[Array, "N"], num_elements: int) -> None:
        num_nodes = species.shape[0]
        self.size = _tile_size(num_nodes, num_elements)
        self.count = (num_nodes + num_elements * (self.size - 1)) // self.size
        order = jnp.argsort(species, stable=True)
        sorted_species = species[order]
        counts = jnp.bincount(species, length=num_elements).astype(jnp.int32)
        tiles_of = (counts + self.size - 1) // self.size
        last_tile = jnp.cumsum(tiles_of)
        first_atom = jnp.cumsum(counts) - counts
        rank = jnp.arange(num_nodes, dtype=jnp.int32) - first_atom[sorted_species]
        slot = (last_tile - tiles_of)[sorted_species] * self.size + rank
        slots = self.count * self.size
        nodes = jnp.full((slots,), num_nodes, jnp.int32)
        self._node_of_slot = nodes.at[slot].set(order.astype(jnp.int32))
        self._slot_of_node = jnp.zeros((num_nodes,), jnp.int32).at[order].set(slot)
        tiles = jnp.arange(self.count, dtype=last_tile.dtype)
        element = jnp.searchsorted(last_tile, tiles, side="right")
        self.element = jnp.minimum(element, num_elements - 1)

    def gather(self, x: Float[Array, "N d C"]) -> Float[Array, "tiles T d C"]:
        """Rows of `x` in tile order, zeros in empty slots."""
        rows = x.at[self._node_of_slot].get(mode="fill", fill_value=0)
        return rows.reshape(self.count, self.size, *x.shape[1:])

    def scatter(self, x: Float[Array, "tiles T d C"]) -> Float[Array, "N d C"]:
        """The inverse of `gather`."""
        return x.reshape(self.count * self.size, *x.shape[2:])[self._slot_of_node]


def _tile_size(num_nodes: int, num_elements: int) -> int:
    """Atoms per tile: large tiles share matrices, small ones waste fewer slots."""
    wanted = max(num_nodes // (2 * num_elements), 1)
    return min(max(8, 2 ** int(np.ceil(np.log2(wanted)))), 1024)
