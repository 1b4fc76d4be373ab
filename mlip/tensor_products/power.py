"""Many-body products of one feature with itself, from any bilinear product."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mlip.nn.irreps import degree_slice
from mlip.nn.linear import EquivariantLinear, split_degrees
from mlip.nn.powers import check_feature, check_power
from mlip.tensor_products.protocol import NodeProduct, Paths


class ElementWeights(nnx.Module):
    """One weight for each element, degree and channel, as after a many-body product.

    Args:
        num_elements: number of elements Z.
        lmax: highest degree.
        channels: channels.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self, num_elements: int, lmax: int, channels: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ) -> None:
        shape = (num_elements, lmax + 1, channels)
        self.weights = nnx.Param(jax.random.normal(rngs.params(), shape, dtype))
        self.lmax = lmax

    def __call__(
        self, x: Float[Array, "N d channels"], species: Int[Array, "N"]
    ) -> Float[Array, "N d_out channels"]:
        """Weight degrees 0..lmax of `x`, shape (N, ≥ (lmax+1)², channels); drop the others."""
        weight = self.weights[...][species]  # (N, lmax + 1, C)
        parts = [x[:, degree_slice(l)] * weight[:, l, None] for l in range(self.lmax + 1)]
        return jnp.concatenate(parts, axis=1)


class ProductPower(nnx.Module):
    """Σ_ν w^ν_z P_ν with P_1 = A and P_ν = Σ over copies of P_{ν−1} ⊗ (linear map of A).

    Each factor is an equivariant linear image of A of its own, which makes up for the fixed
    coefficients of products that add their copies. A product with odd couplings runs beside the
    natural part of P_ν a pseudo-tensor part, since two odd couplings give an even one.

    Args:
        build: the product from degrees (lmax, lmax) to the degree it is given.
        lmax: highest degree of A.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors ν.
        num_elements: number of elements Z.
        channels: channels of A and of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Raises:
        MlipError: for a correlation that is not 1 to 4, a degree above lmax, or degrees that the
            product cannot take or give.
    """

    def __init__(
        self,
        build: Callable[[int], NodeProduct],
        lmax: int,
        hidden_lmax: int,
        correlation: int,
        num_elements: int,
        channels: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        def mixing(copies: Sequence[int]) -> EquivariantLinear:
            return EquivariantLinear(
                [n * channels for n in copies], channels, rngs=rngs, dtype=dtype
            )

        self.lmax, self.channels = lmax, channels
        self.products = power_products(build, lmax, hidden_lmax, correlation)
        has_odd = correlation > 2 and "odd" in self.products[0].paths
        factors, naturals, pseudos = [], [], []
        for index, product in enumerate(self.products):
            factors.append(mixing([1] * (lmax + 1)))
            with_pseudo = has_odd and index > 0
            naturals.append(mixing(_copies(product, "even", with_pseudo)))
            if has_odd and index < len(self.products) - 1:
                pseudos.append(mixing(_copies(product, "odd", with_pseudo)))
        self.factors, self.naturals = nnx.List(factors), nnx.List(naturals)
        self.pseudos = nnx.List(pseudos)
        self.outputs = nnx.List(
            [
                ElementWeights(num_elements, hidden_lmax, channels, rngs=rngs, dtype=dtype)
                for _ in range(correlation)
            ]
        )

    def __call__(
        self, features: Float[Array, "N d channels"], species: Int[Array, "N"]
    ) -> Float[Array, "N d_out channels"]:
        """Powers of A of shape (N, (lmax+1)², channels) up to degree hidden_lmax.

        Raises:
            MlipError: for a feature of another shape.
        """
        check_feature(features, self.lmax, self.channels)
        parts = split_degrees(features)
        natural, pseudo = features, None
        total = self.outputs[0](features, species)
        for index, product in enumerate(self.products):
            image = self.factors[index](parts)
            following = self.naturals[index](_multiply(product, natural, pseudo, image, "even"))
            if index < len(self.pseudos):
                pseudo = self.pseudos[index](_multiply(product, natural, pseudo, image, "odd"))
            natural = following
            total = total + self.outputs[index + 1](natural, species)
        return total


def power_products(
    build: Callable[[int], NodeProduct], lmax: int, hidden_lmax: int, correlation: int
) -> tuple[NodeProduct, ...]:
    """The products of a power, one after the other.

    Args:
        build: the product from degrees (lmax, lmax) to the degree it is given.
        lmax: highest degree of the feature.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors.

    Raises:
        MlipError: as `ProductPower`.
    """
    check_power(lmax, hidden_lmax, correlation)
    inner = [build(lmax)] * (correlation - 2) if correlation > 2 else []
    last = [build(hidden_lmax)] if correlation > 1 else []
    return (*inner, *last)


def _copies(product: NodeProduct, paths: Paths, with_pseudo: bool) -> list[int]:
    """Copies of what `_multiply` returns."""
    first = product.copies(_own(product, paths))
    if not with_pseudo:
        return list(first)
    return [n + m for n, m in zip(first, product.copies(_other(paths)), strict=True)]


def _multiply(
    product: NodeProduct,
    natural: Float[Array, "N d channels"],
    pseudo: Float[Array, "N d channels"] | None,
    image: Float[Array, "N d channels"],
    paths: Paths,
) -> list[jax.Array]:
    """Copies of the result that have natural parity (`even`) or the opposite one (`odd`)."""
    first = product(natural, image, _own(product, paths))
    if pseudo is None:
        return first
    second = product(pseudo, image, _other(paths))
    return [jnp.concatenate(pair, axis=-1) for pair in zip(first, second, strict=True)]


def _own(product: NodeProduct, paths: Paths) -> Paths:
    return paths if paths in product.paths else product.paths[0]


def _other(paths: Paths) -> Paths:
    return "odd" if paths == "even" else "even"
