"""The convolution in the frame of each edge, where it is block-diagonal in the order m."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import sqrt
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field

from mlip.errors import MlipError
from mlip.graph import Graph
from mlip.nn.linear import split_degrees
from mlip.nn.wigner import edge_frame, row_orders
from mlip.settings import Settings
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.protocol import Convolution


class SO2Settings(Settings):
    """Options of the convolution in edge frames."""

    name: Literal["so2"] = "so2"
    mmax: int | None = Field(
        None, ge=0, description="highest order |m| kept in the edge frame; null keeps all"
    )


def orders_that_are_not_there(
    settings: SO2Settings, input_lmax: int, harmonics_lmax: int, output_lmax: int
) -> str | None:
    """A sentence where `mmax` is above every order of a convolution; else nothing."""
    del harmonics_lmax
    highest = min(input_lmax, output_lmax)
    if settings.mmax is None or settings.mmax <= highest:
        return None
    return (
        f"so2: mmax={settings.mmax} was asked for, but degrees {input_lmax} and {output_lmax} "
        f"have no orders above {highest}; leave mmax out to keep all"
    )


class SO2Convolution(Convolution):
    """Sender features rotated to the edge, weighted by degrees and order, rotated back.

        x̃ = D(r̂) x_j,   ỹ[l3 ±m, c] = n_{l3 m} Σ_{l1 ≥ m} w_ij[l3 l1 m, c] x̃[l1 ±m, c],
        out_i[l3, c] = Σ_j D_{l3}(r̂)ᵀ ỹ_{l3}

    with D the rotation of `edge_frame`, which takes r̂ to the polar axis. There a coupling with the
    harmonics of the edge leaves m unchanged, so for given l1 and l3 the weights of the orders
    m ≤ min(l1, l3) are a change of basis of the weights of the couplings (l1, l2, l3) with even
    l1 + l2 + l3, which are as many. With all orders the operator therefore spans the same maps as
    the channelwise Clebsch–Gordan convolution with harmonics up to input_lmax + output_lmax and
    its copies added up: one copy of each degree, so that there is one rotation back. Couplings
    of +m to −m, those of odd l1 + l2 + l3, are left out: they would turn with a mirror.

    The harmonics give the direction alone, whatever their degree: what limits the angular
    resolution is `mmax`, and messages can have any degree. Unit variance of features and weights
    gives unit variance per edge, n² = (2 l3 + 1) / (orders kept · terms in the sum).

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.
        mmax: highest order kept; `None` for all.

    Raises:
        MlipError: for harmonics without degree 1, which hold no direction, unless all degrees
            are zero.

    Source: Passaro and Zitnick, ICML 2023, section 3.
    """

    any_output = True

    def __init__(
        self, input_lmax: int, harmonics_lmax: int, output_lmax: int, mmax: int | None = None
    ) -> None:
        super().__init__(input_lmax, harmonics_lmax, output_lmax)
        if harmonics_lmax == 0 and max(input_lmax, output_lmax) > 0:
            raise MlipError(
                "so2 takes the direction of an edge from its harmonics of degree 1, but they end "
                "at degree 0; raise the degree of the harmonics (lmax) to 1 or more."
            )
        highest = min(input_lmax, output_lmax)
        self.mmax = highest if mmax is None else min(mmax, highest)
        self._pairs = [(l3, l1) for l3 in range(output_lmax + 1) for l1 in range(input_lmax + 1)]

    def _order(self, *degrees: int) -> int:
        """Highest order that all these degrees have."""
        return min(*degrees, self.mmax)

    @property
    def num_weights(self) -> int:
        """Weights per edge and channel: l3 outermost, then l1, then m from 0."""
        return sum(self._order(*pair) + 1 for pair in self._pairs)

    @property
    def output_multiplicity(self) -> tuple[int, ...]:
        """One copy of each degree."""
        return (1,) * (self.output_lmax + 1)

    @property
    def multiplies(self) -> int:
        """Into the frame, weights, and back; see `Convolution`."""
        rows = [2 * self._order(l) + 1 for l in range(max(self.input_lmax, self.output_lmax) + 1)]
        forward = sum(rows[l] * (2 * l + 1) for l in range(1, self.input_lmax + 1))
        back = sum(rows[l] * (2 * l + 1) for l in range(1, self.output_lmax + 1))
        return forward + back + sum(2 * self._order(*pair) + 1 for pair in self._pairs)

    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m channels"]]:
        """Messages summed over the neighbours of each atom; see `Convolution`."""
        # Split before the gather: a part of every edge would have to be copied out otherwise.
        senders = [part[graph.senders] for part in split_degrees(features)]
        return [sum_blocks(part, graph) for part in self._messages(senders, harmonics, weights)]

    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m channels"]]:
        """Messages of features on edges, summed over each row; see `Convolution`."""
        ends = [(l + 1) ** 2 for l in range(self.input_lmax)]
        return self._messages(jnp.split(features, ends, axis=2), harmonics, weights)

    def _messages(
        self,
        senders: Sequence[Float[Array, "B W m channels"]],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m channels"]]:
        frame = self._frame(harmonics)
        rotated = [rotation @ x for rotation, x in zip(frame, senders, strict=False)]
        weight_of = self._split_weights(weights)
        outputs = []
        for l3 in range(self.output_lmax + 1):
            rows = [
                reduce(jnp.add, [weight * rotated[l1][:, :, row] for l1, weight in terms])
                for row, terms in enumerate(self._terms(l3, weight_of))
            ]
            outputs.append(_rotate_back(frame[l3], self._norms(l3), jnp.stack(rows, axis=2)))
        return outputs

    def _frame(self, harmonics: Sequence[Float[Array, "B W"]]) -> list[Float[Array, "B W rows m"]]:
        lmax = max(self.input_lmax, self.output_lmax)
        if lmax == 0:
            return [jnp.ones_like(harmonics[0])[..., None, None]]
        direction = jnp.stack(harmonics[1:4], axis=-1) * (1 / sqrt(3))
        return edge_frame(direction, lmax, self.mmax)

    def _split_weights(
        self, weights: Float[Array, "B W weights_channels"]
    ) -> dict[tuple[int, int, int], Float[Array, "B W channels"]]:
        """The weights by (l3, l1, m)."""
        keys = [(*pair, m) for pair in self._pairs for m in range(self._order(*pair) + 1)]
        # Split, not sliced: the derivative of a split is one concatenation.
        return dict(zip(keys, jnp.split(weights, len(keys), axis=-1), strict=True))

    def _terms(
        self, l3: int, weight_of: Mapping[tuple[int, int, int], Float[Array, "B W channels"]]
    ) -> list[list[tuple[int, Float[Array, "B W channels"]]]]:
        """For each row of the frame of l3 the degrees l1 that have it, and their weights."""
        return [
            [(l1, weight_of[l3, l1, abs(m)]) for l1 in range(abs(m), self.input_lmax + 1)]
            for m in row_orders(self._order(l3))
        ]

    def _norms(self, l3: int) -> np.ndarray:
        """The norms n of the rows of the frame of l3."""
        orders = np.abs(row_orders(self._order(l3)))
        return np.sqrt((2 * l3 + 1) / (orders.size * (self.input_lmax + 1 - orders)))


def _rotate_back(
    frame: Float[Array, "B W rows m"],
    norms: Float[np.ndarray, "rows"],
    y: Float[Array, "B W rows channels"],
) -> Float[Array, "B m channels"]:
    """Σ over edges of a block of Dᵀ n y: one matrix product for each block."""
    blocks, channels = y.shape[0], y.shape[-1]
    # The norms come after the transposition, which would else become a slow flag of the product.
    transposed = jnp.transpose(frame, (0, 3, 1, 2)) * jnp.asarray(norms, y.dtype)[None, None, None]
    return transposed.reshape(blocks, frame.shape[-1], -1) @ y.reshape(blocks, -1, channels)
