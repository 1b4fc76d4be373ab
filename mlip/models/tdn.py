"""TDN: attention with decomposed tensor products (Lin et al., NeurIPS 2025)."""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from mlip.errors import MlipError
from mlip.graph import Graph
from mlip.models.common import ModelConfig, mask_by_name
from mlip.nn.attention import neighbor_softmax, smooth_leaky_relu
from mlip.nn.geometry import edge_lengths_and_directions
from mlip.nn.linear import add_low_degrees
from mlip.nn.normalization import EquivariantLayerNorm, NormSizes
from mlip.nn.path_shared_linear import GatedLinear, PathSharedLinear
from mlip.nn.radial import GaussianBasis, NormalizedRadialMLP, polynomial_envelope
from mlip.nn.readout import BiasedMLPReadout, atomic_energy
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.auto import ConvolutionShape
from mlip.tensor_products.build import build_convolution
from mlip.tensor_products.edgewise import add_copies, each_edge, sum_blocks
from mlip.tensor_products.path_shared import PathSharedSettings
from mlip.tensor_products.registry import TensorProductSettings


class TDNConfig(ModelConfig):
    """Everything that fixes a TDN model but its weights."""

    name: Literal["tdn"] = "tdn"
    cutoff: float = Field(4.5, gt=0, description="radius of a message, Å")
    channels: int = Field(64, ge=1, description="channels of every degree")
    lmax: int = Field(1, ge=0, le=6, description="highest degree of features and edge harmonics")
    num_layers: int = Field(4, ge=1, description="blocks of attention and feed-forward network")
    num_heads: int = Field(4, ge=1, description="attention heads; they share the channels")
    num_gaussians: int = Field(64, ge=1, description="radial basis functions")
    radial_mlp: tuple[int, ...] = Field(
        (64, 64), min_length=1, description="hidden widths of the radial networks"
    )
    envelope_power: int | None = Field(
        5,
        ge=2,
        description="power of the cutoff envelope; null: none, energies jump at the cutoff",
    )
    norm: NormSizes = Field(
        "joint",
        description="layer norm by one size for all degrees, or by a size for each, as published",
    )
    convolution: TensorProductSettings = Field(
        PathSharedSettings(), description="both tensor products of the attention"
    )
    forces: Literal["gradient", "direct"] = Field(
        "gradient",
        description="forces as the gradient of the energy, or as an output of their own",
    )
    readout: Literal["extensive", "intensive"] = Field(
        "extensive",
        description="what is summed over the atoms: the energy, or the energy per atom",
    )
    one_hot: int | None = Field(
        None, ge=1, description="atomic numbers with an embedding, from 1; null: those of the data"
    )
    avg_num_atoms: float = Field(
        1.0, gt=0, description="average atoms of a structure; from the data"
    )

    def check_sizes(self) -> None:
        """Refuse channels that the heads cannot share; see `ModelConfig`."""
        if self.channels % self.num_heads:
            raise ValueError(
                f"channels={self.channels} cannot be shared among num_heads={self.num_heads}; "
                "choose a multiple of num_heads"
            )

    def operator_shapes(self) -> dict[str, list[ConvolutionShape]]:
        """That of the degree embedding, and two of each attention."""
        lmax, channels = self.lmax, self.channels
        attention = [
            ConvolutionShape(lmax, lmax, lmax, channels, "single_edges"),
            ConvolutionShape(lmax, lmax, lmax, channels, "edges"),
        ]
        count = self.num_layers + (self.forces == "direct")
        return {"convolution": [ConvolutionShape(0, lmax, lmax, channels), *attention * count]}


class Edges(NamedTuple):
    """What every layer needs of the edges.

    Attributes:
        harmonics: degrees 0..lmax, one array (B, W) for each component.
        radial: radial basis, shape (B, W, num_gaussians).
        envelope: of the cutoff, shape (B, W); zero on padding.
    """

    harmonics: list[Float[Array, "B W"]]
    radial: Float[Array, "B W num_gaussians"]
    envelope: Float[Array, "B W"]


class TDN(nnx.Module):
    """Per-atom interaction energies, and forces on request, from a graph and its edge vectors.

    Args:
        config: the architecture.
        rngs: source of the initial weights.
        dtype: floating-point type of weights and arithmetic.

    Raises:
        MlipError: for an element that has no embedding.

    Source: Lin et al., tensor decomposition networks, NeurIPS 2025.
    """

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.config = config
        self.radial_basis = GaussianBasis(
            config.cutoff, config.num_gaussians, rngs=rngs, dtype=dtype
        )
        self.atom_embedding = AtomEmbedding(config, rngs=rngs, dtype=dtype)
        self.degree_embedding = DegreeEmbedding(config, rngs=rngs, dtype=dtype)
        self.layers = nnx.List(
            [TDNLayer(config, rngs=rngs, dtype=dtype) for _ in range(config.num_layers)]
        )
        self.norm = _layer_norm(config, dtype=dtype)
        self.energy_head = BiasedMLPReadout(config.channels, rngs=rngs, dtype=dtype)
        self.force_head = ForceHead(config, rngs=rngs, dtype=dtype) if self.direct_forces else None

    @property
    def direct_forces(self) -> bool:
        """Whether forces are an output of their own, and not the gradient of the energy."""
        return self.config.forces == "direct"

    def __call__(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Float[Array, "N"]:
        """Interaction energy of every atom, eV; zero on padding.

        Args:
            graph: connectivity and species.
            vectors: from receiver to sender, Å.
        """
        edges = self._edges(graph, vectors)
        return self._energy(self._features(edges, graph), graph)

    def energy_and_forces(
        self, graph: Graph, vectors: Float[Array, "B W 3"]
    ) -> tuple[Float[Array, "N"], Float[Array, "N 3"]]:
        """Energies (eV) and direct forces (eV/Å) of all atoms, for `forces: direct`."""
        edges = self._edges(graph, vectors)
        x = self._features(edges, graph)
        assert self.force_head is not None
        forces = self.config.scale * self.force_head(x, edges, graph)
        forces = jnp.where(graph.node_mask[:, None], forces, jnp.zeros_like(forces))
        return self._energy(x, graph), forces

    def decay_mask(self) -> nnx.State:
        """True for the matrices of linear maps and networks, false for all else."""
        return mask_by_name(self, {"weight", "weights"})

    def _edges(self, graph: Graph, vectors: Float[Array, "B W 3"]) -> Edges:
        config = self.config
        length, direction = edge_lengths_and_directions(graph, vectors, config.cutoff)
        inside = (graph.edge_mask & (length < config.cutoff)).astype(length.dtype)
        if config.envelope_power is not None:
            inside = inside * polynomial_envelope(length, config.cutoff, config.envelope_power)
        harmonics = spherical_harmonics(direction, config.lmax)
        return Edges(harmonics, self.radial_basis(length), inside)

    def _features(self, edges: Edges, graph: Graph) -> Float[Array, "N d channels"]:
        scalars = self.atom_embedding(graph)[:, None]
        x = add_low_degrees(self.degree_embedding(edges, graph), scalars)
        for layer in self.layers:
            x = layer(x, edges, graph)
        return self.norm(x)

    def _energy(self, x: Float[Array, "N d channels"], graph: Graph) -> Float[Array, "N"]:
        config = self.config
        energy = self.energy_head(x[:, 0])
        if config.readout == "intensive":
            # What is summed is the energy per atom: the structure's is num_atoms times as large.
            energy = energy * graph.num_atoms[graph.node_graph] / sqrt(config.avg_num_atoms)
        return atomic_energy(energy, config.scale, config.shift, graph)


class AtomEmbedding(nnx.Module):
    """Scalars of each element: a linear map of its one-hot vector."""

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        elements = config.elements
        self.rows = tuple(range(len(elements)))
        if config.one_hot is not None:
            beyond = [z for z in elements if z > config.one_hot]
            if beyond:
                raise MlipError(
                    f"model.one_hot={config.one_hot} has no embedding for the elements with atomic "
                    f"numbers {beyond}; raise it, or set it to null for those of the data."
                )
            self.rows = tuple(z - 1 for z in elements)
        shape = (config.one_hot or len(elements), config.channels)
        self.table = nnx.Param(jax.random.normal(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.zeros((config.channels,), dtype))

    def __call__(self, graph: Graph) -> Float[Array, "N channels"]:
        """Degree 0 of every atom."""
        known = self.table[...][np.array(self.rows)]
        return known[graph.species] + self.bias[...][None]


class DegreeEmbedding(nnx.Module):
    """All degrees of each atom from where its neighbours are: harmonics, radially weighted.

    The neighbours' features are the same for all. The last linear map acts on each message; by
    its linearity it may act on their sum, with the bias once for each neighbour.
    """

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        channels = config.channels
        self.channels, self.avg_num_neighbors = channels, config.avg_num_neighbors
        self.product = build_convolution(config.convolution, 0, config.lmax, config.lmax)
        self.radial_mlp = _radial_mlp(config, self.product.num_weights, rngs=rngs, dtype=dtype)
        self.constant = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)
        self.linear = PathSharedLinear(channels, channels, bias=False, rngs=rngs, dtype=dtype)
        self.bias = nnx.Param(jnp.zeros((channels,), dtype))

    def __call__(self, edges: Edges, graph: Graph) -> Float[Array, "N d channels"]:
        """Degrees 0..lmax of every atom."""
        constant = self.constant(jnp.ones((1, 1, self.channels), edges.envelope.dtype))
        x = jnp.broadcast_to(constant, (graph.num_nodes, 1, self.channels))
        weights = self.radial_mlp(edges.radial) * edges.envelope[..., None]
        parts = self.product(x, edges.harmonics, weights, graph)
        summed = self.linear(add_copies(parts, self.channels))
        neighbors = sum_blocks(edges.envelope.sum(axis=1), graph)
        biases = neighbors[:, None, None] * self.bias[...][None, None]
        return add_low_degrees(summed, biases) * (1.0 / sqrt(self.avg_num_neighbors))


class TDNLayer(nnx.Module):
    """Attention, then a feed-forward network with a gate; both after a norm, beside a skip."""

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        channels = config.channels
        self.attention_norm = _layer_norm(config, dtype=dtype)
        self.attention = Attention(config, rngs=rngs, dtype=dtype)
        self.feed_forward_norm = _layer_norm(config, dtype=dtype)
        self.gate = GatedLinear(channels, channels, rngs=rngs, dtype=dtype)
        self.linear = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "N d channels"], edges: Edges, graph: Graph
    ) -> Float[Array, "N d channels"]:
        """Features after one layer."""
        x = x + self.attention(self.attention_norm(x), edges, graph)
        return x + self.linear(self.gate(self.feed_forward_norm(x)))


class Attention(nnx.Module):
    """Messages of pairs of atoms, weighted by attention and summed over the neighbours.

        m_ij = (U x_j + V x_i) ⊗ Y_ij,           first product, weights w_ij(r)
        a_ij = softmax_j (v · φ(S m_ij|_0)),     φ smooth leaky ReLU, one for each head
        out_i = O Σ_j a_ij (gate(G m_ij) ⊗ Y_ij), second product, the same weights w_ij(r)

    The attention enters the weights of the second product, which so can sum as it goes. Copies
    of a degree, of operators that keep couplings apart, are added up. With an envelope both the
    radial weights and the exponentials of the softmax vanish at the cutoff.
    """

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        channels, self.heads = config.channels, config.num_heads
        self.channels = channels
        self.empty_weight = 0.0 if config.envelope_power is None else 1.0
        self.product = build_convolution(config.convolution, *(config.lmax,) * 3)
        self.from_sender = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)
        self.from_receiver = PathSharedLinear(
            channels, channels, bias=False, rngs=rngs, dtype=dtype
        )
        self.radial_mlp = _radial_mlp(config, self.product.num_weights, rngs=rngs, dtype=dtype)
        self.score_linear = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)
        shape = (self.heads, channels // self.heads)
        self.score = nnx.Param(jax.random.normal(rngs.params(), shape, dtype))
        self.value = GatedLinear(channels, channels, rngs=rngs, dtype=dtype)
        self.linear = PathSharedLinear(channels, channels, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "N d channels"], edges: Edges, graph: Graph
    ) -> Float[Array, "N d channels"]:
        """What arrives at each atom."""
        sender, receiver = self.from_sender(x), self.from_receiver(x)
        pairs = sender[graph.senders] + receiver[graph.receivers][:, None]
        weights = self.radial_mlp(edges.radial) * edges.envelope[..., None]
        parts = each_edge(self.product, pairs, edges.harmonics, weights)
        messages = add_copies(parts, self.channels)  # (B, W, d, C)
        attention = self._attention(messages[:, :, :1], edges, graph)
        by_head = weights.reshape(*weights.shape[:2], -1, *self.score.shape)
        weights = (by_head * attention[:, :, None, :, None]).reshape(weights.shape)
        parts = self.product.on_edges(self.value(messages), edges.harmonics, weights)
        return self.linear(sum_blocks(add_copies(parts, self.channels), graph))

    def _attention(
        self, scalars: Float[Array, "B W 1 channels"], edges: Edges, graph: Graph
    ) -> Float[Array, "B W heads"]:
        score = self.score[...]
        keys = smooth_leaky_relu(self.score_linear(scalars))
        keys = keys.reshape(*keys.shape[:2], *score.shape)
        scores = jnp.sum(keys * score[None, None], axis=-1) * (1.0 / sqrt(score.shape[1]))
        return neighbor_softmax(scores, edges.envelope, graph, empty_weight=self.empty_weight)


class ForceHead(nnx.Module):
    """Forces as the vector of one more attention."""

    def __init__(self, config: TDNConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        if config.lmax == 0:
            raise MlipError("model.forces=direct needs vectors; set model.lmax to 1 or more.")
        self.attention = Attention(config, rngs=rngs, dtype=dtype)
        self.linear = PathSharedLinear(config.channels, 1, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[Array, "N d channels"], edges: Edges, graph: Graph
    ) -> Float[Array, "N 3"]:
        """Components x, y, z before scale."""
        return self.linear(self.attention(x, edges, graph))[:, 1:4, 0]


def _layer_norm(config: TDNConfig, *, dtype: DTypeLike) -> EquivariantLayerNorm:
    return EquivariantLayerNorm(config.lmax, config.channels, sizes=config.norm, dtype=dtype)


def _radial_mlp(
    config: TDNConfig, num_weights: int, *, rngs: nnx.Rngs, dtype: DTypeLike
) -> NormalizedRadialMLP:
    widths = (config.num_gaussians, *config.radial_mlp, num_weights * config.channels)
    return NormalizedRadialMLP(widths, rngs=rngs, dtype=dtype)
