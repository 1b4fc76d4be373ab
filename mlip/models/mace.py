"""MACE: higher-order equivariant message passing (Batatia et al., NeurIPS 2022)."""

from __future__ import annotations

from math import sqrt
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from mlip.graph import Graph
from mlip.models.common import ModelConfig, OperatorShapes, mask_by_name
from mlip.nn.geometry import edge_lengths_and_directions
from mlip.nn.linear import ElementLinear, EquivariantLinear, add_low_degrees, split_degrees
from mlip.nn.radial import (
    RadialMLP,
    agnesi_transform,
    bessel_basis,
    polynomial_envelope,
)
from mlip.nn.readout import LinearReadout, MLPReadout, atomic_energy
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.nn.symmetric_contraction import SymmetricContractionSettings
from mlip.nn.zbl import zbl_energy
from mlip.tensor_products.auto import ConvolutionShape, PowerShape
from mlip.tensor_products.build import build_convolution, build_power
from mlip.tensor_products.channelwise import ChannelwiseSettings
from mlip.tensor_products.registry import TensorProductSettings

Interaction = Literal["plain", "residual", "density", "density_residual"]


class MACEConfig(ModelConfig):
    """Everything that fixes a MACE model but its weights."""

    name: Literal["mace"] = "mace"
    channels: int = Field(64, ge=1, description="channels of every degree")
    hidden_lmax: int = Field(1, ge=0, le=3, description="highest degree passed between layers")
    lmax: int = Field(3, ge=0, le=6, description="highest degree of the edge harmonics")
    num_layers: int = Field(2, ge=1, description="message-passing layers")
    correlation: int = Field(3, ge=1, le=4, description="factors in the many-body product")
    num_bessel: int = Field(8, ge=1, description="radial basis functions")
    envelope_power: int = Field(5, ge=2, description="power of the polynomial cutoff envelope")
    radial_mlp: tuple[int, ...] = Field(
        (64, 64, 64), description="hidden widths of the radial network"
    )
    distance_transform: Literal["none", "agnesi"] = Field(
        "none", description="map distances before the radial basis"
    )
    interaction: Interaction = Field("residual", description="block of the later layers")
    first_interaction: Interaction = Field("plain", description="block of the first layer")
    convolution: TensorProductSettings = Field(
        ChannelwiseSettings(), description="tensor product of the messages"
    )
    product: TensorProductSettings = Field(
        SymmetricContractionSettings(), description="tensor product of the many-body step"
    )
    readout_mlp: int = Field(16, ge=1, description="hidden width of the last readout")
    zbl: bool = Field(False, description="add screened nuclear repulsion at short range")

    def operator_shapes(self) -> dict[str, OperatorShapes]:
        """One convolution and one many-body product for each layer."""
        between = [self.hidden_lmax] * (self.num_layers - 1)
        sizes = (self.correlation, len(self.elements), self.channels)
        return {
            "convolution": [
                ConvolutionShape(degree, self.lmax, self.lmax, self.channels)
                for degree in [0, *between]
            ],
            "product": [PowerShape(self.lmax, degree, *sizes) for degree in [*between, 0]],
        }


class MACE(nnx.Module):
    """Per-atom interaction energies from a graph and its edge vectors.

    Args:
        config: the architecture.
        rngs: source of the initial weights.
        dtype: floating-point type of weights and arithmetic.
    """

    def __init__(self, config: MACEConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.config = config
        last = config.num_layers - 1
        elements = len(config.elements)
        self.embedding = nnx.Param(
            jax.random.normal(rngs.params(), (elements, config.channels), dtype)
        )
        layers, readouts = [], []
        for index in range(config.num_layers):
            layers.append(MACELayer(config, index, rngs=rngs, dtype=dtype))
            is_mlp = index == last and index > 0
            readouts.append(
                MLPReadout(config.channels, config.readout_mlp, rngs=rngs, dtype=dtype)
                if is_mlp
                else LinearReadout(config.channels, rngs=rngs, dtype=dtype)
            )
        self.layers = nnx.List(layers)
        self.readouts = nnx.List(readouts)

    def __call__(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Float[Array, "N"]:
        """Interaction energy of every atom, eV; zero on padding.

        Args:
            graph: connectivity and species.
            vectors: from receiver to sender, Å.
        """
        config = self.config
        length, direction = edge_lengths_and_directions(graph, vectors, config.cutoff)
        harmonics = spherical_harmonics(direction, config.lmax)
        radial = self._radial_features(graph, length)

        elements = len(config.elements)
        x = self.embedding[...][graph.species] * (1.0 / sqrt(elements))
        x = x[:, None, :]  # (N, 1, C): degree 0 only
        energy = self._pair_energy(graph, length)
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            x = layer(x, harmonics, radial, graph)
            energy = energy + readout(x[:, 0])
        return atomic_energy(energy, config.scale, config.shift, graph)

    def decay_mask(self) -> nnx.State:
        """True for the weights MACE's recipe decays: message linears and product weights."""
        return mask_by_name(self, {"linear", "product", "product_linear"})

    def _radial_features(
        self, graph: Graph, length: Float[Array, "B W"]
    ) -> Float[Array, "B W num_bessel"]:
        config = self.config
        envelope = polynomial_envelope(length, config.cutoff, config.envelope_power)
        argument = length
        if config.distance_transform == "agnesi":
            radius_i, radius_j = self._pair_values(graph, covalent_radii, length.dtype)
            argument = agnesi_transform(length, 0.5 * (radius_i + radius_j))
        return bessel_basis(argument, config.cutoff, config.num_bessel) * envelope[..., None]

    def _pair_energy(self, graph: Graph, length: Float[Array, "B W"]) -> Float[Array, "N"]:
        if not self.config.zbl:
            return jnp.zeros(graph.num_nodes, length.dtype)
        radius_i, radius_j = self._pair_values(graph, covalent_radii, length.dtype)
        number_i, number_j = self._pair_values(graph, np.arange(120), length.dtype)
        pair = zbl_energy(
            length, number_i, number_j, radius_i + radius_j, self.config.envelope_power
        )
        pair = jnp.where(graph.edge_mask, pair, jnp.zeros_like(pair))
        return jax.ops.segment_sum(pair.sum(axis=1), graph.receivers, graph.num_nodes)

    def _pair_values(
        self, graph: Graph, table: np.ndarray, dtype: DTypeLike
    ) -> tuple[Float[Array, "B 1"], Float[Array, "B W"]]:
        """A per-element table looked up for receivers and senders."""
        values = jnp.asarray(table[list(self.config.elements)], dtype)[graph.species]
        return values[graph.receivers][:, None], values[graph.senders]


class MACELayer(nnx.Module):
    """One interaction followed by one product basis.

    Args:
        config: the architecture.
        index: which layer, from 0.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(self, config: MACEConfig, index: int, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        kind = config.first_interaction if index == 0 else config.interaction
        channels, elements = config.channels, len(config.elements)
        input_lmax = 0 if index == 0 else config.hidden_lmax
        output_lmax = 0 if index == config.num_layers - 1 else config.hidden_lmax
        self.avg_num_neighbors = config.avg_num_neighbors
        self.residual = kind in ("residual", "density_residual")
        self.convolution = build_convolution(
            config.convolution, input_lmax, config.lmax, config.lmax
        )
        self.linear_up = EquivariantLinear(
            [channels] * (input_lmax + 1), channels, rngs=rngs, dtype=dtype
        )
        widths = (config.num_bessel, *config.radial_mlp, self.convolution.num_weights * channels)
        self.radial_mlp = RadialMLP(widths, rngs=rngs, dtype=dtype)
        self.density = (
            RadialMLP((config.num_bessel, 1), rngs=rngs, dtype=dtype)
            if kind in ("density", "density_residual")
            else None
        )
        multiplicity = [paths * channels for paths in self.convolution.output_multiplicity]
        self.linear = EquivariantLinear(multiplicity, channels, rngs=rngs, dtype=dtype)
        skip_lmax = min(input_lmax, output_lmax) if self.residual else config.lmax
        self.skip = ElementLinear(elements, channels, channels, skip_lmax, rngs=rngs, dtype=dtype)
        self.product = build_power(
            config.product,
            config.lmax,
            output_lmax,
            config.correlation,
            elements,
            channels,
            rngs=rngs,
            dtype=dtype,
        )
        self.product_linear = EquivariantLinear(
            [channels] * (output_lmax + 1), channels, rngs=rngs, dtype=dtype
        )

    def __call__(
        self,
        x: Float[Array, "N d channels"],
        harmonics: list[Float[Array, "B W"]],
        radial: Float[Array, "B W features"],
        graph: Graph,
    ) -> Float[Array, "N d_out channels"]:
        """Features after one layer: degrees 0..hidden_lmax, or 0 alone after the last."""
        message = self._message(x, harmonics, radial, graph)
        skip = self.skip(x if self.residual else message, graph.species)
        features = message if self.residual else skip
        product = self.product(features, graph.species)
        out = self.product_linear(split_degrees(product))
        # In the first layer the features, and so the skip, are scalar.
        return add_low_degrees(out, skip) if self.residual else out

    def _message(
        self,
        x: Float[Array, "N d channels"],
        harmonics: list[Float[Array, "B W"]],
        radial: Float[Array, "B W features"],
        graph: Graph,
    ) -> Float[Array, "N d_message channels"]:
        weights = self.radial_mlp(radial)
        parts = self.convolution(self.linear_up(split_degrees(x)), harmonics, weights, graph)
        message = self.linear(parts)
        if self.density is None:
            return message / self.avg_num_neighbors
        edge_density = jnp.tanh(self.density(radial)[..., 0] ** 2)
        edge_density = jnp.where(graph.edge_mask, edge_density, jnp.zeros_like(edge_density))
        density = jax.ops.segment_sum(edge_density.sum(axis=1), graph.receivers, graph.num_nodes)
        return message / (density + 1.0)[:, None, None]
