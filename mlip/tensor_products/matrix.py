"""The matrix tensor product: features as small square matrices, multiplied as matrices."""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import clebsch_gordan, degree_slice, dim
from mlip.settings import Settings
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths


class MatrixProductSettings(Settings):
    """Options of the matrix tensor product: none."""

    name: Literal["matrix"] = "matrix"


class MatrixProduct(NodeProduct):
    """Features as matrices that act on a representation of degree λ, multiplied in both orders.

        X = Σ_lm x_lm T^lm,   T^lm_ab = √(2l+1) C^lm_{λa,λb},
        z_lm = n_l Σ_ab T^lm_ab (X Y + Y X)_ab  (even)  or  n_l Σ_ab T^lm_ab (X Y − Y X)_ab  (odd)

    with λ = ⌈l/2⌉ for the highest degree l of factors and result, the smallest integer whose
    (2λ+1) × (2λ+1) matrices hold them all. T^lm is symmetric for even l and antisymmetric for odd
    l; hence the anticommutator holds exactly the couplings whose degrees have an even sum, and
    the commutator the others. Each coupling has the fixed coefficient
    n_l3 √((2 l1+1)(2 l2+1)(2 l3+1)) {l1 l2 l3; λ λ λ} up to a factor ±2, so that one whose 6j
    symbol vanishes is missing. The n_l give each degree of the result unit variance for
    independent components of unit variance.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Source: Xie et al., arXiv:2506.13523 (matrix tensor product).
    """

    paths: tuple[Paths, ...] = ("even", "odd")

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self._order = (max(lmax1, lmax2, output_lmax) + 1) // 2

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One for each degree with a coupling that does not vanish."""
        return tuple(int(factor > 0) for factor in self._normalization(paths))

    def multiplies(self, paths: Paths = "even") -> int:
        """Three conversions and two products of square matrices."""
        components = sum((2 * l + 1) * n for l, n in enumerate(self.copies(paths)))
        size = 2 * self._order + 1
        return size**2 * (dim(self.lmax1) + dim(self.lmax2) + components) + 2 * size**3

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        factors = self._normalization(paths)
        first = self._matrices(x)
        second = jnp.broadcast_to(self._matrices(y), first.shape)
        forward, backward = _matmul(first, second), _matmul(second, first)
        product = forward + backward if paths == "even" else forward - backward
        basis = _matrix_basis(self._order)
        rows = [factor * basis[degree_slice(l)] for l, factor in enumerate(factors) if factor > 0]
        table = jnp.asarray(np.concatenate(rows) if rows else basis[:0], x.dtype)
        return split_reached(
            jnp.moveaxis(jnp.tensordot(table, product, 2), 0, -2), self.copies(paths)
        )

    def _matrices(
        self, x: Float[Array, "*batch d channels"]
    ) -> Float[Array, "n n *batch channels"]:
        table = jnp.asarray(_matrix_basis(self._order)[: x.shape[-2]], x.dtype)
        return jnp.tensordot(table, jnp.moveaxis(x, -2, 0), ((0,), (0,)))

    def _normalization(self, paths: Paths) -> Float[np.ndarray, "degrees"]:
        check_paths(self, paths)
        return _normalization(self._order, self.lmax1, self.lmax2, self.output_lmax, paths)


@jax.custom_vjp
def _matmul(
    x: Float[Array, "a b *batch"], y: Float[Array, "b c *batch"]
) -> Float[Array, "a c *batch"]:
    """Σ_b x_ab y_bc as a sum of outer products, the batch innermost.

    XLA's CPU backend turns it into one vectorised loop, several times as fast as a batch of small
    matrix products; derivatives have the same form. Reverse mode of any order works; forward mode
    does not.
    """
    terms = [x[:, b, None] * y[None, b] for b in range(y.shape[0])]
    return sum(terms[1:], terms[0])


def _matmul_forward(
    x: Float[Array, "a b *batch"], y: Float[Array, "b c *batch"]
) -> tuple[Float[Array, "a c *batch"], tuple[jax.Array, jax.Array]]:
    return _matmul(x, y), (x, y)


def _matmul_backward(
    factors: tuple[jax.Array, jax.Array], cotangent: Float[Array, "a c *batch"]
) -> tuple[Float[Array, "a b *batch"], Float[Array, "b c *batch"]]:
    x, y = factors
    return _matmul(cotangent, jnp.swapaxes(y, 0, 1)), _matmul(jnp.swapaxes(x, 0, 1), cotangent)


_matmul.defvjp(_matmul_forward, _matmul_backward)


@cache
def _matrix_basis(order: int) -> Float[np.ndarray, "d n n"]:
    """The orthonormal matrices T^lm of all degrees up to 2 · order."""
    blocks = [
        sqrt(2 * l + 1) * np.moveaxis(clebsch_gordan(order, order, l), -1, 0)
        for l in range(2 * order + 1)
    ]
    basis = np.concatenate(blocks)
    basis.setflags(write=False)
    return basis


@cache
def _normalization(
    order: int, lmax1: int, lmax2: int, output_lmax: int, paths: Paths
) -> Float[np.ndarray, "degrees"]:
    """n_l: one over the standard deviation of a component; zero for a degree never reached."""
    basis = _matrix_basis(order)
    first, second = basis[: dim(lmax1)], basis[: dim(lmax2)]
    forward = np.einsum("iab,jbc->ijac", first, second)
    backward = np.einsum("jab,ibc->ijac", second, first)
    products = forward + backward if paths == "even" else forward - backward
    factors = np.zeros(output_lmax + 1)
    for l in range(output_lmax + 1):
        couplings = np.tensordot(products, basis[degree_slice(l)], ((2, 3), (1, 2)))
        variance = np.sum(couplings**2) / (2 * l + 1)
        factors[l] = 1 / sqrt(variance) if variance > 1e-20 else 0.0
    factors.setflags(write=False)
    return factors
