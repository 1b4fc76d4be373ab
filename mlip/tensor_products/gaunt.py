"""The Gaunt product: features as functions on the sphere, multiplied there at points."""

from __future__ import annotations

from functools import cache
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.settings import Settings
from mlip.tensor_products.gaunt_coefficients import gaunt_normalization
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.pointwise import PointwiseMatrices, PointwiseProduct
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.quadrature import harmonics_at, sphere_rule
from mlip.tensor_products.sphere import GridTransform, components_first, repeat_degrees


class GauntQuadratureSettings(Settings):
    """Options of the Gaunt product on few points: none."""

    name: Literal["gaunt_quadrature"] = "gaunt_quadrature"


class GauntGridSettings(Settings):
    """Options of the Gaunt product on a product grid: none."""

    name: Literal["gaunt_grid"] = "gaunt_grid"


class GauntQuadrature(PointwiseProduct):
    """The product of two functions on the sphere, in components, on as few points as possible.

        z_{l3 m3} = n_{l3} ∫ X Y Y_{l3 m3} dΩ,  X = Σ x_lm Y_lm,  Y = Σ y_lm Y_lm

    It adds all couplings of an even sum that end in one degree, with the Gaunt coefficients as
    their constants; n_{l3} gives components of unit variance (`gaunt_normalization`). The integral
    is a sum over points that is exact for the degrees at hand (`sphere_rule`).

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.

    Source: Luo et al., ICLR 2024, eq. 4; Xie et al., ICML 2025, section 4.
    """

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self.matrices(self.paths[0])

    def matrices(self, paths: Paths) -> PointwiseMatrices:
        """The constants of one set of couplings."""
        check_paths(self, paths)
        return gaunt_matrices(self.lmax1, self.lmax2, self.output_lmax)


class GauntGrid(NodeProduct):
    """The Gaunt product on Gauss–Legendre rings, one angle at a time; see `GauntQuadrature`.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
    """

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self.transform = GridTransform(lmax1 + lmax2, output_lmax)

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One for each degree."""
        check_paths(self, paths)
        return (1,) * (self.output_lmax + 1)

    def multiplies(self, paths: Paths = "even") -> int:
        """To the points, once at each of them, and back."""
        check_paths(self, paths)
        lmaxes = (self.lmax1, self.lmax2, self.output_lmax)
        return sum(map(self.transform.multiplies, lmaxes)) + self.transform.num_points

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        first, second = (self.transform.values(components_first(part)) for part in (x, y))
        factors = gaunt_normalization(self.lmax1, self.lmax2, self.output_lmax)
        z = jnp.swapaxes(self.transform.components(first * second, factors.tolist()), 0, 1)
        return split_reached(z.reshape(*x.shape[:-2], *z.shape[1:]), self.copies(paths))


@cache
def gaunt_matrices(lmax1: int, lmax2: int, output_lmax: int) -> PointwiseMatrices:
    """The constants of a Gaunt product as a pointwise one.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result, lmax1 + lmax2 at most.

    Raises:
        MlipError: for degrees whose sum is above 131, the last quadrature rule.
    """
    rule = sphere_rule(lmax1 + lmax2, output_lmax)
    first, second = (harmonics_at(rule.points, lmax) for lmax in (lmax1, lmax2))
    factors = repeat_degrees(gaunt_normalization(lmax1, lmax2, output_lmax))
    return PointwiseMatrices(first, second, rule.analysis * factors)
