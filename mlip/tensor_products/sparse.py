"""Constant bilinear maps from their non-zero coefficients alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from mlip.nn.irreps import Path, clebsch_gordan, dim
from mlip.tensor_products.layout import split_degrees_first

# Terms of one output added in each step of the loop: fewer steps, but more zeros to fill the last.
UNROLLED = 4


class BilinearMap:
    """z_k = Σ c_t x_i(t) y_j(t) over the terms t with k(t) = k.

    One loop over the terms, sorted by k, adds to a row of z the product of a row of x and one of
    y. The rows are long and contiguous, so that each step runs at the speed of vector
    arithmetic, and the program is small whatever the number of terms. Each derivative is again
    such a map, of the same terms; reverse mode of any order works, forward mode does not.

    Args:
        terms: k, i and j of each term, shape (terms, 3).
        coefficients: c of each term.
        sizes: number of rows of z, x and y.
    """

    def __init__(
        self,
        terms: Int[np.ndarray, "terms 3"],
        coefficients: Float[np.ndarray, "terms"],
        sizes: tuple[int, int, int],
    ) -> None:
        order = np.argsort(terms[:, 0], kind="stable")
        self.terms, self.coefficients, self.sizes = terms[order], coefficients[order], sizes

    def __call__(
        self, x: Float[Array, "d1 *lanes"], y: Float[Array, "d2 *lanes"]
    ) -> Float[Array, "d3 *lanes"]:
        """Apply the map along the leading axes; the other axes multiply lane by lane.

        Args:
            x: the first factor.
            y: the second factor; its last axis may be 1 where that of `x` is longer.
        """
        return _apply(self, x, y)

    def dense(self) -> Float[np.ndarray, "d3 d1 d2"]:
        """All coefficients, zeros included."""
        array = np.zeros(self.sizes)
        np.add.at(array, tuple(self.terms.T), self.coefficients)
        return array

    @cached_property
    def first_adjoint(self) -> BilinearMap:
        """(z, y) to x: the derivative of <z, map(x, y)> by x."""
        return self._permuted(1, 0, 2)

    @cached_property
    def second_adjoint(self) -> BilinearMap:
        """(x, z) to y: the derivative of <z, map(x, y)> by y."""
        return self._permuted(2, 1, 0)

    def _permuted(self, *order: int) -> BilinearMap:
        sizes = (self.sizes[order[0]], self.sizes[order[1]], self.sizes[order[2]])
        return BilinearMap(self.terms[:, order], self.coefficients, sizes)

    @cached_property
    def steps(self) -> tuple[np.ndarray, ...]:
        """The terms in groups of one output, filled up with zero coefficients.

        Returns:
            k of each step, shape (steps,); i, j and c, each of shape (steps, UNROLLED).
        """
        counts = np.bincount(self.terms[:, 0], minlength=self.sizes[0])
        steps_of_output = -(-counts // UNROLLED)
        first_term = np.cumsum(counts) - counts
        first_step = np.cumsum(steps_of_output) - steps_of_output
        output = self.terms[:, 0]
        rank = np.arange(len(self.terms)) - first_term[output]
        slot = first_step[output] * UNROLLED + rank
        shape = (int(steps_of_output.sum()), UNROLLED)
        first, second = np.zeros((2, shape[0] * UNROLLED), np.int32)
        coefficient = np.zeros(shape[0] * UNROLLED)
        first[slot], second[slot] = self.terms[:, 1], self.terms[:, 2]
        coefficient[slot] = self.coefficients
        outputs = np.repeat(np.arange(self.sizes[0], dtype=np.int32), steps_of_output)
        columns = (column.reshape(shape) for column in (first, second, coefficient))
        return outputs, *columns


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(bilinear: BilinearMap, x: jax.Array, y: jax.Array) -> jax.Array:
    output, first, second, coefficient = bilinear.steps
    lanes = jnp.broadcast_shapes(x.shape[1:], y.shape[1:])
    z = jnp.zeros((bilinear.sizes[0], *lanes), x.dtype)
    if not len(output):
        return z

    def add(z: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        k, i, j, c = step
        total = _row(z, k)
        for slot in range(UNROLLED):
            total = total + c[slot] * (_row(x, i[slot]) * _row(y, j[slot]))
        return lax.dynamic_update_index_in_dim(z, total, k, 0), None

    index = (jnp.asarray(column, jnp.int32) for column in (output, first, second))
    return lax.scan(add, z, (*index, jnp.asarray(coefficient, x.dtype)))[0]


def _row(array: jax.Array, index: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(array, index, 0, keepdims=False)


def _forward(
    bilinear: BilinearMap, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _apply(bilinear, x, y), (x, y)


def _backward(
    bilinear: BilinearMap, factors: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, y = factors
    return (
        _fit(bilinear.first_adjoint(cotangent, y), x),
        _fit(bilinear.second_adjoint(x, cotangent), y),
    )


def _fit(derivative: jax.Array, like: jax.Array) -> jax.Array:
    """Add up the lanes that shared a value."""
    shared = [axis for axis in range(1, like.ndim) if like.shape[axis] != derivative.shape[axis]]
    return derivative.sum(axis=tuple(shared), keepdims=True) if shared else derivative


_apply.defvjp(_forward, _backward)


class Coupling(NamedTuple):
    """One path of a product: the copy of its degree that it adds to, and its scale.

    A scale of √(2 l3 + 1) gives components of unit variance from independent ones of unit
    variance.
    """

    path: Path
    copy: int
    scale: float


class CouplingMap:
    """A bilinear map of features: Clebsch–Gordan couplings, kept apart or added up.

    Args:
        couplings: the paths with the copies they add to.
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        copies: copies of each degree of the result.
    """

    def __init__(
        self, couplings: Sequence[Coupling], lmax1: int, lmax2: int, copies: Sequence[int]
    ) -> None:
        self.copies = tuple(copies)
        rows = [(2 * degree + 1) * n for degree, n in enumerate(copies)]
        first_row = np.cumsum(rows) - rows
        terms, coefficients = [np.zeros((0, 3), np.int64)], [np.zeros(0)]
        for (l1, l2, l3), copy, scale in couplings:
            block = clebsch_gordan(l1, l2, l3)
            i, j, m = np.nonzero(block)
            row = first_row[l3] + copy * (2 * l3 + 1) + m
            terms.append(np.stack([row, i + l1**2, j + l2**2], axis=1))
            coefficients.append(scale * block[i, j, m])
        sizes = (sum(rows), dim(lmax1), dim(lmax2))
        self.bilinear = BilinearMap(np.concatenate(terms), np.concatenate(coefficients), sizes)

    @property
    def multiplies(self) -> int:
        """Two for each term: factor times factor times coefficient."""
        return 2 * len(self.bilinear.coefficients)

    def __call__(
        self, x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"]
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel, as `NodeProduct` does."""
        first, second = jnp.moveaxis(x, -2, 0), jnp.moveaxis(y, -2, 0)
        lanes = first.shape[1:]
        if second.shape[1:] == lanes:  # one long axis: the compiler vectorises the last one alone
            first, second = first.reshape(len(first), -1), second.reshape(len(second), -1)
        z = self.bilinear(first, second)
        return split_degrees_first(z.reshape(z.shape[0], *lanes), self.copies)
