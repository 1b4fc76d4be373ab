"""The Gaunt product: features as functions on the sphere, multiplied there at points."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.settings import Settings
from mlip.tensor_products.gaunt_coefficients import gaunt_normalization
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.sphere import (
    GridTransform,
    LebedevTransform,
    SphereField,
    SphereTransform,
)


class GauntQuadratureSettings(Settings):
    """Options of the Gaunt product on Lebedev points: none."""

    name: Literal["gaunt_quadrature"] = "gaunt_quadrature"


class GauntGridSettings(Settings):
    """Options of the Gaunt product on a product grid: none."""

    name: Literal["gaunt_grid"] = "gaunt_grid"


class GauntProduct(NodeProduct):
    """The product of two functions on the sphere, in components.

        z_{l3 m3} = n_{l3} ∫ X Y Y_{l3 m3} dΩ,  X = Σ x_lm Y_lm,  Y = Σ y_lm Y_lm

    It adds all couplings of an even sum that end in one degree, with the Gaunt coefficients as
    their constants; n_{l3} gives components of unit variance (`gaunt_normalization`). The integral
    is a sum over points that is exact for the degrees at hand.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Source: Luo et al., ICLR 2024, eq. 4; Xie et al., ICML 2025, section 4.
    """

    transform_type: type[SphereTransform]
    """The points."""

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self.transform = self.transform_type(lmax1 + lmax2 + min(output_lmax, lmax1 + lmax2))

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One for each degree that is reached."""
        return tuple(int(factor > 0) for factor in self.normalization(paths))

    def multiplies(self, paths: Paths = "even") -> int:
        """To the points, twice at each of them (four times for each pair), and back."""
        lmaxes = (self.lmax1, self.lmax2, len(self.normalization(paths)) - 1)
        return sum(map(self.transform.multiplies, lmaxes)) + 2 * self.transform.num_points

    def normalization(self, paths: Paths) -> Float[np.ndarray, "degrees"]:
        """Factor of each degree of the result; zero for those never reached."""
        check_paths(self, paths)
        return gaunt_normalization(self.lmax1, self.lmax2, self.output_lmax)

    def multiply(
        self, x: Float[Array, "d1 N channels"], y: Float[Array, "d2 N channels"], paths: Paths
    ) -> SphereField:
        """The product as a function on the sphere."""
        del paths
        return self.transform.values(x).times(self.transform.values(y))

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        factors = self.normalization(paths).tolist()
        field = self.multiply(components_first(x), components_first(y), paths)
        parts = self.transform.components(field, self.output_lmax)
        return [
            scaled_part(part, factor, x.shape[:-2])
            for part, factor in zip(parts, factors, strict=True)
        ]


class GauntQuadrature(GauntProduct):
    """The Gaunt product on Lebedev points, with dense matrices; see `GauntProduct`."""

    transform_type = LebedevTransform


class GauntGrid(GauntProduct):
    """The Gaunt product on Gauss–Legendre rings, one angle at a time; see `GauntProduct`."""

    transform_type = GridTransform


def components_first(x: Float[Array, "*batch d channels"]) -> Float[Array, "d N channels"]:
    """All of the batch on one axis, components before it."""
    return jnp.swapaxes(x.reshape(-1, *x.shape[-2:]), 0, 1)


def scaled_part(
    part: Float[Array, "m N channels"], factor: float, batch: tuple[int, ...]
) -> Float[Array, "*batch m channels"]:
    """One degree in the layout of features, times its factor; without channels if that is zero."""
    if factor == 0.0:
        return jnp.zeros((*batch, part.shape[0], 0), part.dtype)
    return (factor * jnp.swapaxes(part, 0, 1)).reshape(*batch, part.shape[0], -1)
