"""MACE's symmetric contraction, evaluated as a polynomial by dense matrix products."""

from __future__ import annotations

from functools import cache
from math import ceil, log2
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mlip.nn.components import sum_components, take_components
from mlip.nn.generalized_cg import monomial_coefficients, monomials
from mlip.nn.irreps import dim, reflection_class
from mlip.nn.powers import check_feature, check_power
from mlip.settings import Settings

# Up to this many elements every atom is multiplied with the matrices of all elements, which costs
# arithmetic but no regrouping; beyond it atoms are grouped into tiles of one element each.
MOST_ELEMENTS_WITHOUT_TILES = 5


class SymmetricContractionSettings(Settings):
    """Options of the symmetric contraction: none."""

    name: Literal["symmetric_contraction"] = "symmetric_contraction"


class SymmetricContraction(nnx.Module):
    """Many-body products of one feature with itself, weighted per element and channel.

        B_kLM = Σ_ν Σ_η w^ν_zkLη Σ_{m1…mν} U^{LM,η}_{m1…mν} A_km1 … A_kmν

    For fixed element and channel every component is a polynomial in the d = (lmax+1)² numbers A,
    evaluated as Σ_i l_i(A) Σ_r M_ir r(A): few left monomials l, and right monomials r that are
    products of two of (1, A). Real harmonics are even or odd under the reflections of x, y and z,
    so right monomials fall into eight classes, and a left and a right monomial together serve
    the one output of their joint class or none: the matrices M are small and dense. Channels lead
    and atoms trail, the layout in which XLA's CPU backend multiplies batches fastest.

    Args:
        lmax: highest degree of A.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors ν.
        num_elements: number of elements Z.
        channels: channels of A and of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Raises:
        MlipError: for a correlation that is not 1 to 4, or a degree above lmax.

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
        check_power(lmax, hidden_lmax, correlation)
        self.lmax, self.hidden_lmax, self.correlation = lmax, hidden_lmax, correlation
        self.num_elements, self.channels = num_elements, channels
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
        """Contract A of shape (N, (lmax+1)², channels) to (N, (hidden_lmax+1)², channels).

        Raises:
            MlipError: for a feature of another shape.
        """
        check_feature(features, self.lmax, self.channels)
        if self.num_elements <= MOST_ELEMENTS_WITHOUT_TILES:
            x = jnp.transpose(features, (2, 1, 0))[:, None]  # (C, 1, d, N)
            every = jnp.arange(self.num_elements, dtype=species.dtype)
            own = (species[None, :] == every[:, None]).astype(x.dtype)  # (Z, N)
            product = self._contract(x, every[None], own)
            return jnp.transpose(product[:, 0], (2, 1, 0))
        tiles = _ElementTiles(species, self.num_elements)
        x = jnp.transpose(tiles.gather(features), (3, 0, 2, 1))  # (C, tiles, d, T)
        product = self._contract(x, tiles.element[:, None], None)
        return tiles.scatter(jnp.transpose(product, (1, 3, 2, 0)))

    def _contract(
        self,
        x: Float[Array, "C G d T"],
        element: Int[Array, "G E"],
        own: Float[Array, "E T"] | None,
    ) -> Float[Array, "C G outputs T"]:
        """The polynomials of E candidate elements for each of G groups of T atoms.

        `own` is one where a candidate is the atom's element; `None` stands for E = 1.
        """
        layout = _layout(self.lmax, self.hidden_lmax, self.correlation)
        extended = jnp.concatenate([jnp.ones_like(x[:, :, :1]), x], axis=2)
        rights = _split(_products(extended, layout.right), [b.num_right for b in layout.blocks], 2)
        lefts = _split(_products(extended, layout.left), [b.num_rows for b in layout.blocks], 2)
        matrices = self._matrices(element, x.dtype)
        totals = []
        for matrix, right, left in zip(matrices, rights, lefts, strict=True):
            part = (matrix @ right).reshape(*x.shape[:2], element.shape[1], -1, x.shape[3])
            totals.append(_own_element(part, own) * left)
        rows = jnp.concatenate(totals, axis=2)
        return sum_components(rows, tuple(layout.outputs.tolist()), dim(self.hidden_lmax))

    def _matrices(
        self, element: Int[Array, "G E"], dtype: DTypeLike
    ) -> list[Float[Array, "C G rows right"]]:
        """Weights contracted with the couplings by class, rows (element, output, left)."""
        layout = _layout(self.lmax, self.hidden_lmax, self.correlation)
        parts: list[list[jax.Array]] = [[] for _ in layout.blocks]
        for degree, orders in enumerate(self.weights):
            weight = jnp.concatenate([w[...] for w in orders], axis=1)  # (Z, paths, C)
            weight = jnp.transpose(weight, (2, 0, 1))[:, element]  # (C, G, E, paths)
            table = _coupling_table(self.lmax, self.hidden_lmax, degree, self.correlation)
            flat = weight @ jnp.asarray(table, dtype)
            sizes = [block.rows_of_degree[degree] * block.num_right for block in layout.blocks]
            pieces = _split(flat, sizes, 3)
            for part, block, piece in zip(parts, layout.blocks, pieces, strict=True):
                part.append(piece.reshape(*flat.shape[:3], -1, block.num_right))
        merged = [jnp.concatenate(part, axis=3) for part in parts]
        return [matrix.reshape(*matrix.shape[:2], -1, matrix.shape[-1]) for matrix in merged]


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


class _Block(NamedTuple):
    """The right monomials of one reflection class and the rows they are multiplied with.

    Attributes:
        num_right: right monomials of this class.
        rows_of_degree: rows (output, left monomial) for each degree of the result.
    """

    num_right: int
    rows_of_degree: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        return sum(self.rows_of_degree)


class _Layout(NamedTuple):
    """How the polynomials are laid out; variable 0 is the constant 1, variable i is A_(i−1).

    Attributes:
        blocks: one for each reflection class in use.
        right: the right monomials, block by block, as pairs of variables.
        left: the left monomial of each row, block by block, as a pair of variables.
        outputs: the output of each row.
    """

    blocks: tuple[_Block, ...]
    right: np.ndarray
    left: np.ndarray
    outputs: np.ndarray


@cache
def _layout(lmax: int, hidden_lmax: int, correlation: int) -> _Layout:
    classes = np.concatenate([[0], reflection_class(lmax)])
    outputs = reflection_class(hidden_lmax)
    degree_of = np.repeat(np.arange(hidden_lmax + 1), 2 * np.arange(hidden_lmax + 1) + 1)
    lefts, rights = _left_monomials(lmax, correlation), _right_monomials(lmax, correlation)
    left_class = np.bitwise_xor.reduce(classes[lefts], axis=1)
    right_class = np.bitwise_xor.reduce(classes[rights], axis=1)
    blocks, right, left, output_of_row = [], [], [], []
    for which in np.unique(right_class):
        own = rights[right_class == which]
        counts = [0] * (hidden_lmax + 1)
        for output, output_class in enumerate(outputs):
            matching = lefts[left_class == (output_class ^ which)]
            left.append(matching)
            output_of_row += [output] * len(matching)
            counts[degree_of[output]] += len(matching)
        if sum(counts):
            right.append(own)
            blocks.append(_Block(len(own), tuple(counts)))
    return _Layout(
        tuple(blocks), np.concatenate(right), np.concatenate(left), np.array(output_of_row)
    )


def _left_monomials(lmax: int, correlation: int) -> np.ndarray:
    """What is split off so that at most two factors remain, as pairs of variables."""
    singles = [(0, i) for i in range(1, dim(lmax) + 1)]
    pairs = [(i, j) for _, i in singles for _, j in singles if i <= j]
    return np.array(singles + pairs if correlation == 4 else singles)


def _right_monomials(lmax: int, correlation: int) -> np.ndarray:
    """Monomials of degree at most min(2, ν−1) as pairs of variables, 0 being the constant."""
    last = [0, 0, 0, dim(lmax), dim(lmax)][correlation]
    first = 0 if correlation == 1 else dim(lmax)
    return np.array([(i, j) for i in range(last + 1) for j in range(i, first + 1)])


def _split_monomial(variables: list[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """A monomial of at most four sorted variables as (left pair, right pair)."""
    padded = [0] * (4 - len(variables)) + variables
    if len(variables) < 4:
        return (0, padded[3]), (padded[1], padded[2])
    return (padded[2], padded[3]), (padded[0], padded[1])


@cache
def _coupling_table(lmax: int, hidden_lmax: int, degree: int, correlation: int) -> np.ndarray:
    """Polynomial coefficients of the couplings to one degree.

    Returns:
        float64, shape (paths of all orders, Σ over blocks of rows · right monomials).
    """
    layout = _layout(lmax, hidden_lmax, correlation)
    column = _columns(layout, degree)
    coefficients = [monomial_coefficients(lmax, degree, o) for o in range(1, correlation + 1)]
    width = sum(block.rows_of_degree[degree] * block.num_right for block in layout.blocks)
    table = np.zeros((sum(c.shape[0] for c in coefficients), width))
    first_path = 0
    for order, values in enumerate(coefficients, start=1):
        paths = slice(first_path, first_path + values.shape[0])
        for k, monomial in enumerate(monomials(dim(lmax), order)):
            left, right = _split_monomial([index + 1 for index in monomial])
            for component in range(2 * degree + 1):
                coefficient = values[:, component, k]
                if coefficient.any():
                    table[paths, column[degree**2 + component, left, right]] = coefficient
        first_path += values.shape[0]
    table.setflags(write=False)
    return table


def _columns(
    layout: _Layout, degree: int
) -> dict[tuple[int, tuple[int, int], tuple[int, int]], int]:
    """Column of the table by (output, left, right), for the outputs of one degree."""
    columns = {}
    row = right_start = count = 0
    for block in layout.blocks:
        rights = layout.right[right_start : right_start + block.num_right].tolist()
        for index in range(row, row + block.num_rows):
            output = int(layout.outputs[index])
            if degree**2 <= output < (degree + 1) ** 2:
                left = tuple(layout.left[index].tolist())
                for right in rights:
                    columns[output, left, tuple(right)] = count
                    count += 1
        row += block.num_rows
        right_start += block.num_right
    return columns


def _products(x: Float[Array, "C G d1 T"], pairs: np.ndarray) -> Float[Array, "C G pairs T"]:
    """Products of pairs of variables."""
    first, second = (tuple(column.tolist()) for column in pairs.T)
    taken = take_components(x, second, x.shape[2])
    return taken * take_components(x, first, x.shape[2]) if any(first) else taken


def _split(x: jax.Array, sizes: list[int], axis: int) -> list[jax.Array]:
    # Split, not sliced: the derivative of a split is one concatenation.
    return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def _own_element(
    x: Float[Array, "C G E rows T"], own: Float[Array, "E T"] | None
) -> Float[Array, "C G rows T"]:
    # Written out: XLA's CPU backend does not vectorise a reduction over an inner axis.
    if own is None:
        return x[:, :, 0]
    weight = own[:, None, None, None, :]
    return sum((x[:, :, e] * weight[e] for e in range(1, x.shape[2])), x[:, :, 0] * weight[0])


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
    return min(max(8, 2 ** ceil(log2(wanted))), 1024)
