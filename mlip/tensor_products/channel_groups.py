"""Any convolution for features that have fewer channels the higher their degree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.errors import MlipError
from mlip.graph import Graph
from mlip.tensor_products.protocol import Convolution


class ChannelGroup(NamedTuple):
    """Channels that have the same degrees.

    Attributes:
        start: first channel.
        stop: one past the last.
        lmax: highest degree they have.
    """

    start: int
    stop: int
    lmax: int


def channel_groups(channels: Sequence[int]) -> list[ChannelGroup]:
    """Channels cut where a degree ends: (128, 64, 32, 32) into 0–31, 32–63 and 64–127.

    Args:
        channels: of each degree, not increasing.

    Raises:
        MlipError: if a degree has more channels than the one below.
    """
    if list(channels) != sorted(channels, reverse=True) or min(channels, default=0) < 1:
        raise MlipError(
            f"Degrees 0.. have {list(channels)} channels; expected 1 or more for each degree, and "
            "no more than for the degree below."
        )
    bounds = sorted({0, *channels})
    return [
        ChannelGroup(start, stop, sum(count >= stop for count in channels) - 1)
        for start, stop in pairwise(bounds)
    ]


class GroupedConvolution:
    """One convolution for each group of channels with the same degrees.

    Operators treat every channel by itself, so that cutting the channels changes nothing but the
    number of degrees that a group carries; weights and couplings are those of every existing
    (degree, channel), no more.

    Args:
        build: the convolution of features up to a degree.
        channels: of each degree of the features, not increasing.

    Raises:
        MlipError: as `channel_groups`, or by `build`.
    """

    def __init__(self, build: Callable[[int], Convolution], channels: Sequence[int]) -> None:
        self.groups = channel_groups(channels)
        self.convolutions = [build(group.lmax) for group in self.groups]

    @property
    def num_weights(self) -> int:
        """Weights per edge, of all channels."""
        return sum(self._weights)

    @property
    def output_channels(self) -> tuple[int, ...]:
        """Channels of each degree of the messages, copies included."""
        widths = [group.stop - group.start for group in self.groups]
        copies = [convolution.output_multiplicity for convolution in self.convolutions]
        return tuple(
            sum(width * count for width, count in zip(widths, counts, strict=True))
            for counts in zip(*copies, strict=True)
        )

    @property
    def _weights(self) -> list[int]:
        return [
            convolution.num_weights * (group.stop - group.start)
            for convolution, group in zip(self.convolutions, self.groups, strict=True)
        ]

    def __call__(
        self,
        parts: Sequence[Float[Array, "N _ _"]],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights"],
        graph: Graph,
    ) -> list[Float[Array, "N _ _"]]:
        """Messages summed over the neighbours of each atom.

        Args:
            parts: of the senders, an array (N, 2l+1, C_l) for each degree.
            harmonics: as from `spherical_harmonics`.
            weights: per edge, shape (B, W, num_weights), one group after the other; zero on padded
                edges.
            graph: gives senders and receivers.

        Returns:
            for each degree l an array (N, 2l+1, output_channels[l]), one group after the other.
        """
        cuts = [sum(self._weights[:index]) for index in range(1, len(self.groups))]
        messages = [
            convolution(_joint(parts, group), harmonics, weight, graph)
            for convolution, group, weight in zip(
                self.convolutions, self.groups, jnp.split(weights, cuts, axis=-1), strict=True
            )
        ]
        return [jnp.concatenate(of_degree, axis=-1) for of_degree in zip(*messages, strict=True)]


def _joint(
    parts: Sequence[Float[Array, "N _ _"]], group: ChannelGroup
) -> Float[Array, "N components channels"]:
    """The channels of a group in the joint layout of their degrees."""
    present = [part[..., group.start : group.stop] for part in parts[: group.lmax + 1]]
    return jnp.concatenate(present, axis=1)
