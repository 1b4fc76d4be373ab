"""Weights of ACEsuit's MACE, read by their torch parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip.errors import MlipError
from mlip.models.mace import MACE, MACEConfig, MACELayer
from mlip.nn.linear import ElementLinear, EquivariantLinear
from mlip.nn.radial import RadialMLP
from mlip.nn.symmetric_contraction import SymmetricContraction
from mlip.potential import Potential, Precision

_INTERACTIONS = {
    "RealAgnosticInteractionBlock": "plain",
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
}

_REQUIRED = (
    "atomic_numbers",
    "atomic_energies",
    "r_max",
    "num_bessel",
    "num_polynomial_cutoff",
    "max_ell",
    "interaction",
    "interaction_first",
    "num_interactions",
    "hidden_irreps",
    "MLP_irreps",
    "avg_num_neighbors",
    "correlation",
    "radial_MLP",
)

# Torch buffers whose values follow from the hyperparameters.
_BUFFERS = re.compile(
    r"(atomic_energies_fn|scale_shift|radial_embedding\.(bessel_fn|cutoff_fn))\..*"
    r"|atomic_numbers|num_interactions|r_max|.*\.output_mask|.*\.U_matrix.*"
)

Weights = Mapping[str, np.ndarray]


def from_torch_weights(
    hyperparameters: Mapping[str, Any], weights: Weights, precision: Precision = "float64"
) -> Potential:
    """A potential with the weights of a MACE model trained in torch.

    Args:
        hyperparameters: by MACE's own names (`r_max`, `hidden_irreps`, …).
        weights: by torch parameter name.
        precision: of the resulting potential.

    Raises:
        MlipError: for an option that has no counterpart here, or weights of another shape, too
            few or too many.
    """
    config = config_from_torch(hyperparameters)
    with jax.enable_x64(precision == "float64" or bool(jax.config.jax_enable_x64)):
        model = MACE(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(precision))
        _Loader(weights, jnp.dtype(precision)).load(model)
    e0 = np.asarray(hyperparameters["atomic_energies"], dtype=np.float64)
    return Potential(
        model,
        elements=config.elements,
        e0=dict(zip(config.elements, e0.tolist(), strict=True)),
        precision=precision,
        metadata={"source": hyperparameters.get("source", "MACE weights from torch")},
    )


def config_from_torch(hyperparameters: Mapping[str, Any]) -> MACEConfig:
    """MACE's hyperparameters under our names.

    Raises:
        MlipError: for an option that has no counterpart here, or one that is missing.
    """
    h = hyperparameters
    missing = [name for name in _REQUIRED if name not in h]
    if missing:
        raise MlipError(
            f"the hyperparameters lack {', '.join(missing)}; give them by MACE's own names."
        )
    channels, hidden_lmax = _parse_hidden_irreps(h["hidden_irreps"])
    transform = h.get("distance_transform", "None")
    if h.get("radial_type", "bessel") != "bessel" or transform not in ("None", "Agnesi"):
        raise MlipError(
            f"radial_type={h.get('radial_type')} with distance_transform={transform} is not "
            "supported; expected bessel with None or Agnesi."
        )
    return MACEConfig(
        elements=tuple(h["atomic_numbers"]),
        cutoff=h["r_max"],
        channels=channels,
        hidden_lmax=hidden_lmax,
        lmax=h["max_ell"],
        num_layers=h["num_interactions"],
        correlation=h["correlation"],
        num_bessel=h["num_bessel"],
        envelope_power=h["num_polynomial_cutoff"],
        radial_mlp=tuple(h["radial_MLP"]),
        distance_transform="agnesi" if transform == "Agnesi" else "none",
        interaction=_interaction(h["interaction"]),
        first_interaction=_interaction(h["interaction_first"]),
        readout_mlp=int(str(h["MLP_irreps"]).split("x")[0]),
        zbl=bool(h.get("pair_repulsion", False)),
        avg_num_neighbors=h["avg_num_neighbors"],
        scale=h.get("atomic_inter_scale", 1.0),
        shift=h.get("atomic_inter_shift", 0.0),
    )


def _interaction(name: str) -> str:
    if name not in _INTERACTIONS:
        known = ", ".join(_INTERACTIONS)
        raise MlipError(f"interaction block {name} is not supported; expected one of {known}.")
    return _INTERACTIONS[name]


def _parse_hidden_irreps(irreps: str) -> tuple[int, int]:
    parts = [part.strip() for part in irreps.split("+")]
    expected = [f"{l}{'e' if l % 2 == 0 else 'o'}" for l in range(len(parts))]
    counts, names = zip(*(part.split("x") for part in parts), strict=True)
    if list(names) != expected or len(set(counts)) != 1:
        raise MlipError(
            f"hidden_irreps={irreps} is not supported; expected equally many channels of "
            "0e, 1o, 2e, … as in 64x0e+64x1o."
        )
    return int(counts[0]), len(parts) - 1


class _Loader:
    """Copies torch arrays into a module, remembering what was used."""

    def __init__(self, weights: Weights, dtype: jnp.dtype) -> None:
        self._weights, self._dtype = weights, dtype
        self._used: set[str] = set()

    def load(self, model: MACE) -> None:
        config = model.config
        self._set(model.embedding, "node_embedding.linear.weight")
        for index, layer in enumerate(model.layers):
            self._layer(layer, index)
        for index, readout in enumerate(model.readouts):
            prefix = f"readouts.{index}"
            if hasattr(readout, "mlp"):
                for k, weight in enumerate(readout.mlp.weights):
                    self._set(weight, f"{prefix}.linear_{k + 1}.weight")
            else:
                self._set(readout.weight, f"{prefix}.linear.weight")
        self._check_the_rest(config)

    def _check_the_rest(self, config: MACEConfig) -> None:
        """Nothing is left over but buffers and torch's empty placeholders."""
        for name in sorted(set(self._weights) - self._used):
            known = _BUFFERS.fullmatch(name) or np.size(self._weights[name]) == 0
            if name.startswith("pair_repulsion_fn."):
                known = config.zbl
            if name.startswith("radial_embedding.distance_transform."):
                known = config.distance_transform == "agnesi"
            if not known:
                raise MlipError(
                    f"the weights hold {name}, which a model of these hyperparameters does not "
                    "have; do the hyperparameters belong to these weights?"
                )

    def _layer(self, layer: MACELayer, index: int) -> None:
        prefix = f"interactions.{index}"
        self._linear(layer.linear_up, f"{prefix}.linear_up.weight")
        self._mlp(layer.radial_mlp, f"{prefix}.conv_tp_weights")
        self._linear(layer.linear, f"{prefix}.linear.weight")
        self._element_linear(layer.skip, f"{prefix}.skip_tp.weight")
        if layer.density is not None:
            self._mlp(layer.density, f"{prefix}.density_fn")
        prefix = f"products.{index}"
        self._linear(layer.product_linear, f"{prefix}.linear.weight")
        assert isinstance(layer.product, SymmetricContraction)  # the default of the config read
        for degree, orders in enumerate(layer.product.weights):
            name = f"{prefix}.symmetric_contractions.contractions.{degree}"
            for order, weight in enumerate(orders, start=1):
                highest = order == len(orders)
                suffix = "weights_max" if highest else f"weights.{len(orders) - 1 - order}"
                self._set(weight, f"{name}.{suffix}")

    def _set(self, param: nnx.Param, name: str) -> None:
        self._assign(param, self._get(name), name)

    def _get(self, name: str) -> np.ndarray:
        if name not in self._weights:
            raise MlipError(f"the weights have no {name}; are they of another architecture?")
        self._used.add(name)
        return self._weights[name]

    def _assign(self, param: nnx.Param, array: np.ndarray, name: str) -> None:
        if array.size != param[...].size:
            raise MlipError(
                f"{name} has {array.size} numbers, expected {param[...].size}; do the "
                "hyperparameters belong to these weights?"
            )
        param[...] = jnp.asarray(np.reshape(array, param.shape), self._dtype)

    def _mlp(self, mlp: RadialMLP, prefix: str) -> None:
        for k, weight in enumerate(mlp.weights):
            self._set(weight, f"{prefix}.layer{k}.weight")

    def _linear(self, linear: EquivariantLinear, name: str) -> None:
        self._split(list(linear.weights), name)

    def _element_linear(self, linear: ElementLinear, name: str) -> None:
        self._split(list(linear.weights), name)

    def _split(self, params: list[nnx.Param], name: str) -> None:
        """Torch stores one flat vector for all degrees, in order."""
        flat = self._get(name).ravel()
        sizes = [param[...].size for param in params]
        if sum(sizes) != flat.size:
            raise MlipError(
                f"{name} has {flat.size} numbers, expected {sum(sizes)}; do the hyperparameters "
                "belong to these weights?"
            )
        ends = np.cumsum(sizes)
        for param, size, end in zip(params, sizes, ends, strict=True):
            self._assign(param, flat[end - size : end], name)
