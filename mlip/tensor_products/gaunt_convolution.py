"""The convolutions of the Gaunt products: at the points of each, or by moments."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.nn.irreps import dim
from mlip.tensor_products.gaunt import GauntGrid, GauntQuadrature
from mlip.tensor_products.gaunt_coefficients import gaunt_normalization, gaunt_tensor
from mlip.tensor_products.moments import MomentConvolution, moment_multiplies
from mlip.tensor_products.pointwise import MatrixPoints, PointwiseConvolution
from mlip.tensor_products.protocol import Convolution
from mlip.tensor_products.sphere import components_first

MOST_MORE = 1.5  # multiplications of moments beside those at points that still make them faster


class GridPoints:
    """The points of a Gaunt product on Gauss–Legendre rings, reached one angle at a time.

    A channel has one weight for each edge and degree of the harmonics.

    Args:
        product: gives degrees and transform.
    """

    def __init__(self, product: GauntGrid) -> None:
        self._transform, self._lmax1 = product.transform, product.lmax1
        self.num_points = product.transform.num_points
        self.num_weights = product.lmax2 + 1
        degrees = (product.lmax1, product.lmax2, product.transform.output_lmax)
        self._factors = gaunt_normalization(*degrees).tolist()

    @property
    def multiplies(self) -> int:
        """Two separable transforms; see `Points`."""
        lmaxes = (self._lmax1, self._transform.output_lmax)
        return sum(map(self._transform.multiplies, lmaxes))

    def values(self, x: Float[Array, "N d1 channels"]) -> Float[Array, "N P channels"]:
        """To the rings, then around them; see `Points`."""
        return jnp.swapaxes(self._transform.values(components_first(x)), 0, 1)

    def filters(self, y: Float[Array, "B W d2"]) -> Float[Array, "B W P weights"]:
        """Each degree of the harmonics at the points; see `Points`."""
        flat = y.reshape(-1, y.shape[-1]).T
        values = jnp.swapaxes(self._transform.values_by_degree(flat), 0, 1)
        return values.reshape(*y.shape[:-1], *values.shape[1:])

    def components(self, values: Float[Array, "N P channels"]) -> Float[Array, "N d3 channels"]:
        """Around the rings, then from them; see `Points`."""
        found = self._transform.components(jnp.swapaxes(values, 0, 1), self._factors)
        return jnp.swapaxes(found, 0, 1)


def gaunt_convolution(product: GauntQuadrature | GauntGrid) -> Convolution:
    """The convolution of a Gaunt product, summed over the neighbours at its points.

    Moments (`MomentConvolution`) give the same sums. Their number, (lmax1+1)² (lmax2+1)², grows
    faster with the degrees than that of the points, but few of them are less work. They are taken
    unless they need more than `MOST_MORE` times the multiplications at the points
    (`Convolution.multiplies`), of which matrix products do as many more per second. On a CPU, with
    64 channels and with derivatives, points overtake them from L = 3 on where all degrees are L;
    in MACE, with features to degree 1 and harmonics to degree 3, they do not.

    Args:
        product: features of the sender times harmonics of the edge.
    """
    points = (
        GridPoints(product)
        if isinstance(product, GauntGrid)
        else MatrixPoints(product.matrices("even"), "degree")
    )
    at_points = PointwiseConvolution(product, points)
    degrees = (product.lmax1, product.lmax2, product.output_lmax)
    by_moments = moment_multiplies(product.lmax1, product.lmax2, dim(product.output_lmax))
    if by_moments <= MOST_MORE * at_points.multiplies:
        return MomentConvolution(product, gaunt_tensor(*degrees))
    return at_points
