"""eSCN: messages by linear maps in the frame of each edge (Passaro and Zitnick, ICML 2023).

In the version with smooth cutoffs, gates and gradient forces of eSEN (Fu et al., 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from mlip.graph import Graph
from mlip.models.common import ModelConfig, OperatorShapes, mask_by_name
from mlip.nn.edge_frames import EdgeFrames, edge_frames
from mlip.nn.gate import gate
from mlip.nn.geometry import edge_lengths_and_directions
from mlip.nn.linear import DegreeLinear, EquivariantLinear, add_low_degrees, split_degrees
from mlip.nn.normalization import DegreeRMSNorm
from mlip.nn.radial import RadialMLP, bessel_basis, polynomial_envelope
from mlip.nn.readout import MLPReadout, atomic_energy
from mlip.nn.so2_linear import SO2Linear, by_degree, by_order, gate_orders
from mlip.tensor_products.auto import PowerShape
from mlip.tensor_products.build import build_power
from mlip.tensor_products.edgewise import sum_blocks
from mlip.tensor_products.gaunt import GauntQuadratureSettings
from mlip.tensor_products.registry import TensorProductSettings


class ESCNConfig(ModelConfig):
    """Everything that fixes an eSCN model but its weights."""

    name: Literal["escn"] = "escn"
    channels: int = Field(64, ge=1, description="channels of every degree of an atom")
    message_channels: int = Field(
        32, ge=1, description="channels that are rotated to the edges and back"
    )
    hidden_channels: int = Field(
        64, ge=1, description="channels between the two linear maps on an edge"
    )
    lmax: int = Field(3, ge=1, le=6, description="highest degree of the features")
    mmax: int | None = Field(
        2, ge=0, description="highest order |m| kept in the edge frames; null keeps all"
    )
    num_layers: int = Field(2, ge=1, description="blocks of messages and feed-forward network")
    num_bessel: int = Field(8, ge=1, description="radial basis functions")
    envelope_power: int = Field(5, ge=2, description="power of the polynomial cutoff envelope")
    element_channels: int = Field(
        16, ge=1, description="width of each element as the radial networks see it"
    )
    radial_mlp: tuple[int, ...] = Field(
        (64, 64), description="hidden widths of the radial networks"
    )
    product: TensorProductSettings = Field(
        GauntQuadratureSettings(), description="tensor product of the feed-forward networks"
    )
    correlation: int = Field(2, ge=2, le=4, description="factors in this product")
    readout_mlp: int = Field(64, ge=1, description="hidden width of the readout")

    def operator_shapes(self) -> dict[str, OperatorShapes]:
        """One product for each layer; messages are no tensor product of the library."""
        sizes = (self.correlation, len(self.elements), self.channels)
        return {
            "product": [
                PowerShape(self.lmax, output_lmax, *sizes) for output_lmax in self.output_degrees()
            ]
        }

    def output_degrees(self) -> list[int]:
        """Highest degree that leaves each layer."""
        return [self.lmax] * (self.num_layers - 1) + [0]

    def orders(self) -> int:
        """Highest order |m| that is kept and that there is."""
        return self.lmax if self.mmax is None else min(self.mmax, self.lmax)


class Edges(NamedTuple):
    """What every layer needs of the edges.

    Attributes:
        frames: rotations to the polar axis, and back with the cutoff envelope as weight.
        radial: what the radial networks see, shape (B, W, features).
    """

    frames: EdgeFrames
    radial: Float[Array, "B W features"]


class ESCN(nnx.Module):
    """Per-atom interaction energies from a graph and its edge vectors.

    Args:
        config: the architecture.
        rngs: source of the initial weights.
        dtype: floating-point type of weights and arithmetic.

    Source: Passaro and Zitnick, ICML 2023; Fu et al., arXiv:2502.12147 (eSEN).
    """

    def __init__(self, config: ESCNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        def embedding(channels: int) -> nnx.Param:
            shape = (len(config.elements), channels)
            return nnx.Param(jax.random.normal(rngs.params(), shape, dtype))

        self.config = config
        self.embedding = embedding(config.channels)
        self.sender_embedding = embedding(config.element_channels)
        self.receiver_embedding = embedding(config.element_channels)
        self.degree_embedding = DegreeEmbedding(config, rngs=rngs, dtype=dtype)
        self.layers = nnx.List(
            [
                ESCNLayer(config, output_lmax, rngs=rngs, dtype=dtype)
                for output_lmax in config.output_degrees()
            ]
        )
        self.norm = DegreeRMSNorm([config.channels], dtype=dtype)
        self.readout = MLPReadout(config.channels, config.readout_mlp, rngs=rngs, dtype=dtype)

    def __call__(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Float[Array, "N"]:
        """Interaction energy of every atom, eV; zero on padding.

        Args:
            graph: connectivity and species.
            vectors: from receiver to sender, Å.
        """
        config = self.config
        edges = self._edges(graph, vectors)
        scalars = self.embedding[...][graph.species][:, None]
        x = add_low_degrees(self.degree_embedding(edges, graph), scalars)
        for layer in self.layers:
            x = layer(x, edges, graph)
        (scalars,) = self.norm([x])
        return atomic_energy(self.readout(scalars[:, 0]), config.scale, config.shift, graph)

    def decay_mask(self) -> nnx.State:
        """True for the matrices of linear maps and networks, false for norms and embeddings."""
        return mask_by_name(self, {"weights"})

    def _edges(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Edges:
        config = self.config
        length, direction = edge_lengths_and_directions(graph, vectors, config.cutoff)
        envelope = polynomial_envelope(length, config.cutoff, config.envelope_power)
        envelope = jnp.where(graph.edge_mask, envelope, jnp.zeros_like(envelope))
        weight = envelope * (1.0 / sqrt(config.avg_num_neighbors))
        basis = bessel_basis(length, config.cutoff, config.num_bessel)
        senders = self.sender_embedding[...][graph.species[graph.senders]]
        receivers = self.receiver_embedding[...][graph.species[graph.receivers]][:, None]
        receivers = jnp.broadcast_to(receivers, senders.shape)
        return Edges(
            edge_frames(direction, weight, config.lmax, config.orders()),
            jnp.concatenate([basis, senders, receivers], axis=-1),
        )


class DegreeEmbedding(nnx.Module):
    """All degrees of each atom from where its neighbours are: Σ_j w_l(r_ij, Z_i, Z_j) Y_l(r̂_ij)."""

    def __init__(self, config: ESCNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.degrees = config.lmax + 1
        self.radial_mlp = _radial_mlp(
            config, self.degrees * config.channels, rngs=rngs, dtype=dtype
        )

    def __call__(self, edges: Edges, graph: Graph) -> Float[Array, "N d channels"]:
        """Degrees 0..lmax of every atom."""
        weights = jnp.split(self.radial_mlp(edges.radial), self.degrees, axis=-1)
        return sum_blocks(edges.frames.spread(weights), graph)


class ESCNLayer(nnx.Module):
    """Messages, then a feed-forward network; both after a norm, beside a skip.

    Args:
        config: the architecture.
        output_lmax: highest degree that leaves the layer.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self, config: ESCNConfig, output_lmax: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ) -> None:
        self.components = (output_lmax + 1) ** 2
        channels = [config.channels] * (config.lmax + 1)
        self.message_norm = DegreeRMSNorm(channels, dtype=dtype)
        self.message = SO2Message(config, rngs=rngs, dtype=dtype)
        self.feed_forward_norm = DegreeRMSNorm(channels, dtype=dtype)
        self.feed_forward = SphereFeedForward(config, output_lmax, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "N d channels"], edges: Edges, graph: Graph
    ) -> Float[Array, "N d_out channels"]:
        """Features after one layer: degrees 0..lmax, or 0 alone after the last."""
        x = x + self.message(self.message_norm(split_degrees(x)), edges, graph)
        mapped = self.feed_forward(self.feed_forward_norm(split_degrees(x)), graph)
        return x[:, : self.components] + mapped


class SO2Message(nnx.Module):
    """Messages formed in the frame of their edge, where linear maps need no coupling coefficients.

        h_ij = gate(S₁ (w_ij ⊙ D_ij (U x_j + V x_i))),   out_i = O Σ_j u(r_ij) D_ijᵀ S₂ h_ij

    with D the rotation of the edge to the polar axis, w radial weights for each degree, order m
    and channel, S₁ and S₂ linear maps of all degrees and channels of one order (`SO2Linear`), a
    gate between them, and u the cutoff envelope. All of them commute with turns about the edge, so
    that truncation to |m| ≤ mmax is exactly equivariant as well. U, V and O act on atoms, of which
    there are few, and let the many edges do with fewer channels; the published network has x_j and
    x_i side by side instead of their sum.

    This is no `Convolution` of the tensor-product library, and none can take its place: that
    multiplies each channel by itself with weights of the edge and sums at once, while here trained
    matrices mix all channels and degrees, and a nonlinearity acts on every edge, before there is a
    sum. With S₁ diagonal in the channels, the gate and S₂ left out, what remains is the operator
    `so2`.
    """

    def __init__(self, config: ESCNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        lmax, mmax = config.lmax, config.orders()
        wide, narrow = [config.channels] * (lmax + 1), [config.message_channels] * (lmax + 1)
        hidden = config.hidden_channels
        self.sizes = tuple((lmax + 1 - m) * config.message_channels for m in range(mmax + 1))
        self.from_sender = DegreeLinear(wide, narrow, rngs=rngs, dtype=dtype)
        self.from_receiver = DegreeLinear(wide, narrow, rngs=rngs, dtype=dtype)
        self.radial_mlp = _radial_mlp(config, sum(self.sizes), rngs=rngs, dtype=dtype)
        self.linear_in = SO2Linear(
            lmax, mmax, narrow[0], hidden, lmax * hidden, rngs=rngs, dtype=dtype
        )
        self.linear_out = SO2Linear(lmax, mmax, hidden, narrow[0], rngs=rngs, dtype=dtype)
        self.linear = EquivariantLinear(narrow, config.channels, rngs=rngs, dtype=dtype)

    def __call__(
        self, parts: Sequence[Float[Array, "N m channels"]], edges: Edges, graph: Graph
    ) -> Float[Array, "N d channels"]:
        """What arrives at each atom, from one array for each degree."""
        # Split by degrees before the gather: parts of every edge would have to be copied out else.
        pairs = [
            sender[graph.senders] + receiver[graph.receivers][:, None]
            for sender, receiver in zip(
                self.from_sender(parts), self.from_receiver(parts), strict=True
            )
        ]
        orders = by_order(edges.frames.rotate(pairs), len(self.sizes) - 1)
        weights = self._radial_weights(edges.radial)
        hidden, gates = self.linear_in([x * w for x, w in zip(orders, weights, strict=True)])
        messages, _ = self.linear_out(gate_orders(hidden, gates))
        summed = edges.frames.sum_back(by_degree(messages, len(parts) - 1))
        return self.linear(split_degrees(sum_blocks(summed, graph)))

    def _radial_weights(
        self, radial: Float[Array, "B W features"]
    ) -> list[Float[Array, "B W 1 degrees_channels"]]:
        """One array for each order; the signs of an order share their weights."""
        weights = self.radial_mlp(radial)[:, :, None]
        return jnp.split(weights, np.cumsum(self.sizes)[:-1].tolist(), axis=-1)


class SphereFeedForward(nnx.Module):
    """Each atom by itself: a linear map, a gate, a product on the sphere and a linear map back.

    The published networks apply SiLU at points of the sphere, which is equivariant only up to the
    error of the quadrature. A product of functions is a polynomial, so that a finite quadrature is
    exact; any operator of the library that multiplies two features of one atom can compute it.

    Args:
        config: the architecture.
        output_lmax: highest degree of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.
    """

    def __init__(
        self, config: ESCNConfig, output_lmax: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ) -> None:
        channels, lmax = config.channels, config.lmax
        same = [channels] * (lmax + 1)
        with_gates = [channels * (1 + lmax), *same[1:]]
        self.linear_in = DegreeLinear(same, with_gates, rngs=rngs, dtype=dtype)
        self.product = build_power(
            config.product,
            lmax,
            output_lmax,
            config.correlation,
            len(config.elements),
            channels,
            rngs=rngs,
            dtype=dtype,
        )
        self.linear_out = EquivariantLinear(
            [channels] * (output_lmax + 1), channels, rngs=rngs, dtype=dtype
        )

    def __call__(
        self, parts: Sequence[Float[Array, "N m channels"]], graph: Graph
    ) -> Float[Array, "N d_out channels"]:
        """Degrees 0..output_lmax of every atom, from one array for each degree."""
        hidden = jnp.concatenate(gate(self.linear_in(parts)), axis=1)
        return self.linear_out(split_degrees(self.product(hidden, graph.species)))


def _radial_mlp(
    config: ESCNConfig, num_weights: int, *, rngs: nnx.Rngs, dtype: DTypeLike
) -> RadialMLP:
    features = config.num_bessel + 2 * config.element_channels
    return RadialMLP((features, *config.radial_mlp, num_weights), rngs=rngs, dtype=dtype)
