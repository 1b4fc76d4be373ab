"""The training loss and the error sums that go with it."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from pydantic import Field, model_validator

from mlip.errors import MlipError
from mlip.graph import Graph, Labels
from mlip.potential import Output
from mlip.settings import Settings

# Exponent p of the energy residual dE / N**p.
_ENERGY_POWER = {"per_atom_squared": 1.0, "squared_per_atom": 0.5, "squared": 0.0}


class LossSettings(Settings):
    """Weights and shape of the loss."""

    kind: Literal["mse", "huber", "l1"] = Field(
        "mse", description="penalty of a residual x: x², Huber, or |x|"
    )
    energy_weight: float = Field(1.0, ge=0.0, description="weight of the energy term")
    forces_weight: float = Field(100.0, ge=0.0, description="weight of the forces term")
    stress_weight: float = Field(0.0, ge=0.0, description="weight of the stress term")
    energy_convention: Literal["per_atom_squared", "squared_per_atom", "squared"] = Field(
        "squared_per_atom",
        description=(
            "energy residual of a structure of N atoms: per_atom_squared penalises dE/N "
            "(MSE: (dE/N)²), squared_per_atom dE/√N (MSE: dE²/N), squared dE (MSE: dE²)"
        ),
    )
    forces_convention: Literal["per_component", "per_structure"] = Field(
        "per_component",
        description=(
            "force residual: per_component penalises each dF, per_structure √(mean |dF|²) over "
            "the atoms of a structure"
        ),
    )
    huber_delta: float = Field(
        0.01, gt=0.0, description="where Huber turns linear, in the residual's unit (eV, Å)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not any(self.weights):
            raise ValueError("energy_weight, forces_weight and stress_weight are all zero")
        if self.kind != "huber":
            self.require_default(["huber_delta"], "only for kind=huber")
        return self

    @property
    def weights(self) -> LossWeights:
        """The weights of the three terms."""
        return LossWeights(self.energy_weight, self.forces_weight, self.stress_weight)


class LossWeights(NamedTuple):
    """Weight of each term; `None` leaves the term, and its derivative, out of the program."""

    energy: Float[Array, ""] | float | None
    forces: Float[Array, ""] | float | None
    stress: Float[Array, ""] | float | None

    @property
    def energy_only(self) -> bool:
        """Neither forces nor stress are trained on: the model need not be differentiated."""
        return self.forces is None and self.stress is None


class LossMetrics(NamedTuple):
    """Sums over a batch from which errors over many batches are made.

    Attributes:
        structures: number of real structures.
        energy: sum of (dE/N)², eV².
        energy_count: labelled energies.
        forces: sum of squared force components, (eV/Å)².
        forces_count: labelled components; none where forces were not computed.
        stress: sum of squared stress components, (eV/Å³)².
        stress_count: labelled components; none without a stress.
        bad: structures with a residual whose square is not finite.
    """

    structures: Float[Array, ""]
    energy: Float[Array, ""]
    energy_count: Float[Array, ""]
    forces: Float[Array, ""]
    forces_count: Float[Array, ""]
    stress: Float[Array, ""]
    stress_count: Float[Array, ""]
    bad: Bool[Array, "G"]


def loss(
    output: Output,
    graph: Graph,
    labels: Labels,
    settings: LossSettings,
    weights: LossWeights | None = None,
) -> tuple[Float[Array, ""], LossMetrics]:
    """Weighted sum of the mean penalties of energy, force and stress residuals.

    L = w_E mean_g φ(dE_g / N_g^p) + w_F mean_{i,c} φ(dF_ic) + w_S mean_{g,cd} φ(dS_gcd),
    means over the real structures and atoms of the batch, each penalty multiplied by the label's
    own weight (zero where the label is missing). Atoms that are left out of a structure whose other
    forces count, as fixed ones are, do not count in the mean either. Forces or a stress that the
    output lacks have no errors. With `forces_convention: per_structure` the force term is
    w_F mean_g φ(√(mean_i |dF_i|²)), the inner mean over the labelled atoms of a structure.

    Args:
        output: predictions, eV, eV/Å, eV/Å³.
        graph: gives masks and atom counts.
        labels: reference values in the same units.
        settings: shape of the penalty.
        weights: weights of the terms, those of `settings` by default.

    Returns:
        The loss and the sums for the errors in plain units.

    Raises:
        MlipError: for a weight of the stress where the model has none.
        ValueError: for a weight of the forces where they were not computed.
    """
    weights = settings.weights if weights is None else weights
    dtype = output.energy.dtype
    atoms = jnp.maximum(graph.num_atoms, jnp.ones((), dtype))
    energy = output.energy - labels.energy
    _require_terms(output, weights)
    forces = _residual(output.forces, labels.forces)
    stress = _residual(output.stress, labels.stress)
    structures = jnp.sum(graph.graph_mask, dtype=dtype)

    total = jnp.zeros((), dtype)
    if weights.energy is not None:
        residual = energy / atoms ** _ENERGY_POWER[settings.energy_convention]
        term = jnp.sum(labels.energy_weight * _penalty(residual, settings))
        total = total + weights.energy * term / structures
    if weights.forces is not None:
        if settings.forces_convention == "per_structure":
            term = _forces_by_structure(forces, graph, labels, settings) / structures
        else:
            term = jnp.sum(labels.forces_weight[:, None] * _penalty(forces, settings))
            term = term / (3.0 * jnp.sum(_counted(graph, labels), dtype=dtype))
        total = total + weights.forces * term
    if weights.stress is not None:
        term = jnp.sum(labels.stress_weight[:, None, None] * _penalty(stress, settings))
        total = total + weights.stress * term / (9.0 * structures)

    has_energy = (labels.energy_weight > 0).astype(dtype)
    has_forces = _labelled(output.forces, labels.forces_weight)
    has_stress = _labelled(output.stress, labels.stress_weight)
    metrics = LossMetrics(
        structures=structures,
        energy=jnp.sum(has_energy * (energy / atoms) ** 2),
        energy_count=jnp.sum(has_energy),
        forces=jnp.sum(has_forces[:, None] * forces**2),
        forces_count=3.0 * jnp.sum(has_forces),
        stress=jnp.sum(has_stress[:, None, None] * stress**2),
        stress_count=9.0 * jnp.sum(has_stress),
        bad=_bad_structures(energy, forces, stress, graph),
    )
    return total, metrics


def _counted(graph: Graph, labels: Labels) -> Bool[Array, "N"]:
    """Real atoms, without those left out of a structure whose other forces count."""
    labelled = labels.forces_weight > 0
    some = jax.ops.segment_max(labelled.astype(jnp.int32), graph.node_graph, graph.num_graphs)
    return graph.node_mask & (labelled | (some[graph.node_graph] < 1))


def _forces_by_structure(
    forces: Float[Array, "N 3"], graph: Graph, labels: Labels, settings: LossSettings
) -> Float[Array, ""]:
    """Penalties of the structures' root mean square force errors, weighted and summed."""

    def summed(atoms: Float[Array, "N"]) -> Float[Array, "G"]:
        return jax.ops.segment_sum(atoms, graph.node_graph, graph.num_graphs)

    one = jnp.ones((), forces.dtype)
    labelled = (labels.forces_weight > 0).astype(forces.dtype)
    count = jnp.maximum(summed(labelled), one)
    square = summed(labelled * jnp.sum(forces**2, axis=1)) / count
    # The root has no derivative at zero, where nothing is labelled.
    positive = square > 0
    error = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, one)), jnp.zeros_like(square))
    return jnp.sum(summed(labels.forces_weight) / count * _penalty(error, settings))


def _require_terms(output: Output, weights: LossWeights) -> None:
    """Raise for a term of the loss that the output lacks."""
    if output.forces is None and not weights.energy_only:
        raise ValueError("the loss has a weight for forces or stress, which were not computed")
    if output.stress is None and weights.stress is not None:
        raise MlipError(
            "the loss has a weight for the stress, but forces that are not the gradient of an "
            "energy come without stress; set loss.stress_weight=0, or model.forces=gradient."
        )


def _residual(predicted: Array | None, labelled: Array) -> Array:
    """Zero where nothing was predicted."""
    return jnp.zeros_like(labelled) if predicted is None else predicted - labelled


def _labelled(predicted: Array | None, label_weight: Array) -> Array:
    """One for each label that something was predicted for, else zero."""
    return (
        jnp.zeros_like(label_weight)
        if predicted is None
        else (label_weight > 0).astype(label_weight.dtype)
    )


def _penalty(residual: Array, settings: LossSettings) -> Array:
    if settings.kind == "mse":
        return residual**2
    size = jnp.abs(residual)
    if settings.kind == "l1":
        return size
    delta = settings.huber_delta
    return jnp.where(size < delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def _bad_structures(
    energy: Float[Array, "G"],
    forces: Float[Array, "N 3"],
    stress: Float[Array, "G 3 3"],
    graph: Graph,
) -> Bool[Array, "G"]:
    bad_atoms = jnp.any(~jnp.isfinite(forces**2), axis=1).astype(jnp.int32)
    count = jax.ops.segment_sum(bad_atoms, graph.node_graph, graph.num_graphs)
    bad_stress = jnp.any(~jnp.isfinite(stress**2), axis=(1, 2))
    return graph.graph_mask & (~jnp.isfinite(energy**2) | (count > 0) | bad_stress)
