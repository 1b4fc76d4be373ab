"""Products taken point by point: z = Aᵀ Σ_t (B_tᵀ x) ⊙ (C_tᵀ y) with constant matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import isqrt
from typing import Literal, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.graph import Graph
from mlip.nn.irreps import degree_slice
from mlip.nn.linear import matmul_last
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.protocol import NEIGHBORS, Convolution, NodeProduct, Paths
from mlip.tensor_products.sphere import apply_rows, components_first


class PointwiseMatrices(NamedTuple):
    """The constants of a pointwise product of P points (or rank P), in float64.

    Several products may be added at each point: then the synthesis matrices hold the points once
    for each term.

    Attributes:
        synthesis1: values of the first factor's components at the points of each term, B.
        synthesis2: those of the second factor, C.
        analysis: from the points to the components of the result, A; zero columns throughout a
            degree that is never reached.
    """

    synthesis1: Float[np.ndarray, "d1 terms_P"]
    synthesis2: Float[np.ndarray, "d2 terms_P"]
    analysis: Float[np.ndarray, "P d3"]

    def reached(self) -> tuple[int, ...]:
        """One for each degree of the result that is reached, zero for the others."""
        lmax = round(self.analysis.shape[1] ** 0.5) - 1
        return tuple(int(np.any(self.analysis[:, degree_slice(l)])) for l in range(lmax + 1))

    def reached_columns(self) -> Float[np.ndarray, "P d3_reached"]:
        """The analysis without the degrees never reached."""
        keep = [np.full(2 * l + 1, bool(n)) for l, n in enumerate(self.reached())]
        return self.analysis[:, np.concatenate(keep)]

    def multiplies(self) -> int:
        """Three matrix products, and one multiplication at each point of each term."""
        reached = sum((2 * l + 1) * n for l, n in enumerate(self.reached()))
        synthesised = len(self.synthesis1) + len(self.synthesis2) + 1
        return self.synthesis1.shape[1] * synthesised + len(self.analysis) * reached

    def multiply(
        self, x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"]
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """The result for each degree, one copy of those reached; see `NodeProduct`."""
        first = apply_rows(self.synthesis1.T, components_first(x))
        values = first * apply_rows(self.synthesis2.T, components_first(y))
        values = values.reshape(-1, len(self.analysis), *values.shape[1:])
        summed = values[0] if len(values) == 1 else values.sum(axis=0)
        # Transposed as a whole: as many transpositions as degrees take much longer.
        result = jnp.swapaxes(apply_rows(self.reached_columns().T, summed), 0, 1)
        joint = result.reshape(*x.shape[:-2], *result.shape[1:])
        return split_reached(joint, self.reached())


class PointwiseProduct(NodeProduct):
    """z = Aᵀ[(Bᵀ x) ⊙ (Cᵀ y)]: both factors at P points, multiplied there, and back.

    All couplings that end in one degree are added with the coefficients that the matrices fix, so
    each degree has one copy.
    """

    @abstractmethod
    def matrices(self, paths: Paths) -> PointwiseMatrices:
        """The constants of one set of couplings."""

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One for each degree that is reached."""
        return self.matrices(paths).reached()

    def multiplies(self, paths: Paths = "even") -> int:
        """Three matrix products and the multiplications at each point."""
        return self.matrices(paths).multiplies()

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        return self.matrices(paths).multiply(x, y)


class Points(Protocol):
    """How features come to the points of a convolution, and results back from there."""

    @property
    def num_points(self) -> int:
        """Number of points, or rank of a decomposition."""

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel."""

    @property
    def multiplies(self) -> int:
        """Multiplications for one channel of one atom: to the points, and back."""

    def values(self, x: Float[Array, "N d1 channels"]) -> Float[Array, "N P channels"]:
        """Features at the points."""

    def filters(self, y: Float[Array, "B W d2"]) -> Float[Array, "B W P weights"]:
        """The harmonics of each edge at the points, one column for each weight."""

    def components(self, values: Float[Array, "N P channels"]) -> Float[Array, "N d3 channels"]:
        """Back from the points: the degrees that are reached."""


class MatrixPoints:
    """Points reached by dense matrices.

    Args:
        matrices: of a pointwise product of one term.
        weighting: one weight per edge and channel (`shared`), or one per degree l of the harmonics
            (`degree`), which makes the filter Σ_l w_l(r) Y_l of each channel.
    """

    def __init__(self, matrices: PointwiseMatrices, weighting: Literal["degree", "shared"]) -> None:
        first, second, _ = matrices
        self._to_points, self._back = first.T, matrices.reached_columns().T
        lmax2 = isqrt(len(second)) - 1
        groups = [degree_slice(l) for l in range(lmax2 + 1)]
        groups = groups if weighting == "degree" else [slice(None)]
        self._filters = np.zeros((*second.shape, len(groups)))
        for column, rows in enumerate(groups):
            self._filters[rows, :, column] = second[rows]

    @property
    def num_points(self) -> int:
        """Number of points, or rank of a decomposition."""
        return self._to_points.shape[0]

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel."""
        return self._filters.shape[-1]

    @property
    def multiplies(self) -> int:
        """Two dense matrices; see `Points`."""
        return self._to_points.size + self._back.size

    def values(self, x: Float[Array, "N d1 channels"]) -> Float[Array, "N P channels"]:
        """One GEMM; see `Points`."""
        return _multiply_rows(self._to_points, x)

    def filters(self, y: Float[Array, "B W d2"]) -> Float[Array, "B W P weights"]:
        """One GEMM; see `Points`."""
        matrix = jnp.asarray(self._filters.reshape(y.shape[-1], -1), y.dtype)
        return matmul_last(y, matrix).reshape(*y.shape[:-1], *self._filters.shape[1:])

    def components(self, values: Float[Array, "N P channels"]) -> Float[Array, "N d3 channels"]:
        """One GEMM; see `Points`."""
        return _multiply_rows(self._back, values)


class PointwiseConvolution(Convolution):
    """The convolution of a product taken point by point, summed over the neighbours at the points.

        out_i = Aᵀ Σ_j (Bᵀ x_j) ⊙ Σ_l w_ij[l] (C_lᵀ Y_l(r̂_ij))

    Features are taken to the points once per atom, and back once per receiving atom.

    Args:
        product: gives degrees and what is known about the map.
        points: where it is taken.
    """

    def __init__(self, product: NodeProduct, points: Points) -> None:
        super().__init__(product.lmax1, product.lmax2, product.output_lmax)
        paths = product.paths[0]
        self.exact, self.mirrors = product.exact, paths != "mixed"
        self._points, self._copies = points, product.copies(paths)

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel."""
        return self._points.num_weights

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """One for each degree that is reached."""
        return self._copies

    @property
    def multiplies(self) -> int:
        """Weights and features at each point, and the way there and back; see `Convolution`."""
        at_points = self._points.num_points * (self.num_weights + 1)
        return at_points + self._points.multiplies // NEIGHBORS

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m copies_channels"]]:
        """Messages summed over the neighbours of each atom; see `Convolution`."""
        values = self._points.values(features)
        summed = sum_blocks(self._sum_at_points(values[graph.senders], harmonics, weights), graph)
        return split_reached(self._points.components(summed), self._copies)

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m copies_channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        values = self._points.values(features.reshape(-1, *features.shape[2:]))
        values = values.reshape(*features.shape[:2], *values.shape[1:])
        summed = self._sum_at_points(values, harmonics, weights)
        return split_reached(self._points.components(summed), self._copies)

    def _sum_at_points(
        self,
        values: Float[Array, "B W P channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> Float[Array, "B P channels"]:
        """Values of the features at the points times those of the filters, over each row."""
        filters = self._points.filters(jnp.stack(harmonics, axis=-1))
        per_weight = weights.reshape(*weights.shape[:2], -1, values.shape[-1])
        return (values * (filters @ per_weight)).sum(axis=1)


def _multiply_rows(
    matrix: Float[np.ndarray, "k d"], x: Float[Array, "N d channels"]
) -> Float[Array, "N k channels"]:
    """Multiply the rows of every atom or edge by a matrix, channels kept innermost: one GEMM."""
    return jnp.swapaxes(apply_rows(matrix, components_first(x)), 0, 1)
