"""NequIP: E(3)-equivariant convolutions with gates (Batzner et al., Nat. Commun. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int
from pydantic import Field, field_validator

from mlip.graph import Graph
from mlip.models.common import ModelConfig, OperatorShapes
from mlip.nn.gate import gate
from mlip.nn.geometry import edge_lengths_and_directions
from mlip.nn.linear import DegreeElementLinear, DegreeLinear, add_low_degrees_by_degree
from mlip.nn.normalization import DegreeRMSNorm
from mlip.nn.radial import RadialMLP, bessel_basis, polynomial_envelope
from mlip.nn.readout import LinearReadout, atomic_energy
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.auto import ConvolutionShape
from mlip.tensor_products.build import build_convolution
from mlip.tensor_products.channel_groups import GroupedConvolution, channel_groups
from mlip.tensor_products.channelwise import ChannelwiseSettings
from mlip.tensor_products.registry import TensorProductSettings

Count = Annotated[int, Field(ge=1)]


class NequIPConfig(ModelConfig):
    """Everything that fixes a NequIP model but its weights.

    Features have natural parity, (−1)^l: the scalars, vectors, … of the paper's 0e, 1o, 2e, 3o.
    Its other half, the pseudo-scalars and pseudo-vectors (0o, 1e, …), is outside of the layout of
    this library, and so are the couplings that lead there.
    """

    name: Literal["nequip"] = "nequip"
    channels: tuple[Count, ...] = Field(
        (32,), description="channels: one number, or one for each degree 0, 1, …, not increasing"
    )
    lmax: int = Field(2, ge=0, le=6, description="highest degree of features and edge harmonics")
    num_layers: int = Field(4, ge=1, description="message-passing layers")
    num_bessel: int = Field(8, ge=1, description="radial basis functions")
    envelope_power: int = Field(6, ge=2, description="power of the polynomial cutoff envelope")
    radial_mlp: tuple[int, ...] = Field((64, 64), description="hidden widths of the radial network")
    convolution: TensorProductSettings = Field(
        ChannelwiseSettings(), description="tensor product of the messages"
    )
    embedding: Literal["trained", "one_hot"] = Field(
        "trained", description="what an atom starts from: channels of its element, or its element"
    )
    self_interaction: Literal["element", "shared"] = Field(
        "element", description="linear map of the residual: one per element, or one for all"
    )
    layer_norm: bool = Field(False, description="normalise the features before each gate")
    scale_shift: Literal["global", "element"] = Field(
        "global", description="scale and shift for all atoms, or trained for each element"
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _one_number_for_all(cls, channels: Any) -> Any:
        return (channels,) if isinstance(channels, int) else channels

    def check_sizes(self) -> None:
        """Refuse channels that do not fit the degrees; see `ModelConfig`."""
        channels = self.degree_channels
        if len(channels) != self.lmax + 1 or list(channels) != sorted(channels, reverse=True):
            raise ValueError(
                f"channels={list(channels)} does not fit lmax={self.lmax}; expected one number, or "
                f"{self.lmax + 1} of which none is above the one before"
            )

    @property
    def degree_channels(self) -> tuple[int, ...]:
        """Channels of each degree between the layers."""
        return self.channels * (self.lmax + 1) if len(self.channels) == 1 else self.channels

    def layer_channels(self) -> list[tuple[int, ...]]:
        """Channels of each degree before, between and after the layers."""
        scalars = self.degree_channels[0]
        first = len(self.elements) if self.embedding == "one_hot" else scalars
        return [(first,), *[self.degree_channels] * (self.num_layers - 1), (scalars,)]

    def operator_shapes(self) -> dict[str, OperatorShapes]:
        """One convolution for each layer and group of channels with the same degrees."""
        channels = self.layer_channels()
        return {
            "convolution": [
                ConvolutionShape(group.lmax, self.lmax, len(after) - 1, group.stop - group.start)
                for before, after in pairwise(channels)
                for group in channel_groups(before)
            ]
        }


class NequIP(nnx.Module):
    """Per-atom interaction energies from a graph and its edge vectors.

    Args:
        config: the architecture.
        rngs: source of the initial weights.
        dtype: floating-point type of weights and arithmetic.
    """

    def __init__(self, config: NequIPConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.config = config
        elements = len(config.elements)
        channels = config.layer_channels()
        self.embedding = (
            nnx.Param(jax.random.normal(rngs.params(), (elements, channels[0][0]), dtype))
            if config.embedding == "trained"
            else None
        )
        self.layers = nnx.List(
            [
                NequIPLayer(config, before, after, rngs=rngs, dtype=dtype)
                for before, after in pairwise(channels)
            ]
        )
        self.readout = LinearReadout(channels[-1][0], rngs=rngs, dtype=dtype)
        of_element = config.scale_shift == "element"
        self.scale = nnx.Param(jnp.full(elements, config.scale, dtype)) if of_element else None
        self.shift = nnx.Param(jnp.full(elements, config.shift, dtype)) if of_element else None

    def __call__(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Float[Array, "N"]:
        """Interaction energy of every atom, eV; zero on padding.

        Args:
            graph: connectivity and species.
            vectors: from receiver to sender, Å.
        """
        config = self.config
        length, direction = edge_lengths_and_directions(graph, vectors, config.cutoff)
        harmonics = spherical_harmonics(direction, config.lmax)
        envelope = polynomial_envelope(length, config.cutoff, config.envelope_power)
        radial = bessel_basis(length, config.cutoff, config.num_bessel) * envelope[..., None]

        features = [self._embed(graph.species, vectors.dtype)[:, None, :]]  # degree 0 only
        for layer in self.layers:
            features = layer(features, harmonics, radial, graph)
        energy = self.readout(features[0][:, 0])
        if self.scale is None or self.shift is None:
            return atomic_energy(energy, config.scale, config.shift, graph)
        scale, shift = self.scale[...][graph.species], self.shift[...][graph.species]
        return atomic_energy(energy, scale, shift, graph)

    def _embed(self, species: Int[Array, "N"], dtype: DTypeLike) -> Float[Array, "N channels"]:
        elements = len(self.config.elements)
        if self.embedding is None:
            return jax.nn.one_hot(species, elements, dtype=dtype)
        return self.embedding[...][species] * (1.0 / sqrt(elements))


class NequIPLayer(nnx.Module):
    """One interaction block: convolution, residual self-interaction, gate.

    Args:
        config: the architecture.
        before: channels of each degree of the input.
        after: channels of each degree of the output.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self,
        config: NequIPConfig,
        before: Sequence[int],
        after: Sequence[int],
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ) -> None:
        self.norm_of_sum = 1.0 / sqrt(config.avg_num_neighbors)
        self.linear_in = DegreeLinear(before, before, rngs=rngs, dtype=dtype)
        self.convolution = GroupedConvolution(
            lambda lmax: build_convolution(config.convolution, lmax, config.lmax, len(after) - 1),
            before,
        )
        widths = (config.num_bessel, *config.radial_mlp, self.convolution.num_weights)
        self.radial_mlp = RadialMLP(widths, rngs=rngs, dtype=dtype)
        # A further scalar for each channel of the higher degrees opens its gate.
        gated = (after[0] + sum(after[1:]), *after[1:])
        messages = self.convolution.output_channels
        self.linear_out = DegreeLinear(messages, gated, rngs=rngs, dtype=dtype)
        kept = min(len(before), len(after))
        self.self_interaction = (
            DegreeElementLinear(
                len(config.elements), before[:kept], gated[:kept], rngs=rngs, dtype=dtype
            )
            if config.self_interaction == "element"
            else DegreeLinear(before[:kept], gated[:kept], rngs=rngs, dtype=dtype)
        )
        self.layer_norm = DegreeRMSNorm(gated, dtype=dtype) if config.layer_norm else None

    def __call__(
        self,
        features: Sequence[Float[Array, "N _ _"]],
        harmonics: Sequence[Float[Array, "B W"]],
        radial: Float[Array, "B W features"],
        graph: Graph,
    ) -> list[Float[Array, "N _ _"]]:
        """Features after the layer, one array (N, 2l+1, C_l) for each degree."""
        weights = self.radial_mlp(radial)
        messages = self.convolution(self.linear_in(features), harmonics, weights, graph)
        update = [part * self.norm_of_sum for part in self.linear_out(messages)]
        update = add_low_degrees_by_degree(update, self._residual(features, graph.species))
        if self.layer_norm is not None:
            update = self.layer_norm(update)
        return gate(update)

    def _residual(
        self, features: Sequence[Float[Array, "N _ _"]], species: Int[Array, "N"]
    ) -> list[Float[Array, "N _ _"]]:
        kept = list(features[: len(self.self_interaction.weights)])
        if isinstance(self.self_interaction, DegreeElementLinear):
            return self.self_interaction(kept, species)
        return self.self_interaction(kept)
