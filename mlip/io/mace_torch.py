"""Weights of ACEsuit's MACE, read by their torch parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip.errors import MlipError
from mlip.io.mace_constants import is_constant
from mlip.io.mace_hyperparameters import config_from_torch, isolated_energies
from mlip.models.mace import MACE, MACELayer
from mlip.nn.linear import ElementLinear, EquivariantLinear
from mlip.nn.radial import RadialMLP
from mlip.nn.symmetric_contraction import SymmetricContraction
from mlip.potential import Potential, Precision

Weights = Mapping[str, np.ndarray]


def from_torch_weights(
    hyperparameters: Mapping[str, Any], weights: Weights, precision: Precision = "float64"
) -> Potential:
    """A potential with the weights of a MACE model trained in torch.

    Args:
        hyperparameters: by MACE's own names (`r_max`, `hidden_irreps`, …). Scale and shift are
            taken from the weights where they are not among them.
        weights: by torch parameter name; buffers, where they are there, are compared with the
            constants used here.
        precision: of the resulting potential.

    Raises:
        MlipError: for an option that is not known or has no counterpart here, weights of another
            shape, too few or too many, or a buffer of another value than is used here.
    """
    config = config_from_torch(_with_stored_scale(hyperparameters, weights))
    e0 = isolated_energies(hyperparameters)
    _check_basis(hyperparameters, weights)
    with jax.enable_x64(precision == "float64" or bool(jax.config.jax_enable_x64)):
        model = MACE(config, rngs=nnx.Rngs(0), dtype=jnp.dtype(precision))
        _Loader(weights, e0, jnp.dtype(precision)).load(model)
    return Potential(
        model,
        elements=config.elements,
        e0=e0,
        precision=precision,
        metadata={"source": hyperparameters.get("source", "MACE weights from torch")},
    )


def _with_stored_scale(hyperparameters: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    """The hyperparameters, with scale and shift of the weights where they do not name them."""
    complete = dict(hyperparameters)
    if "MACE" in (complete.get("model"), complete.get("model_class")):  # without scale and shift
        return complete
    for name in ("scale", "shift"):
        stored = weights.get(f"scale_shift.{name}")
        if stored is not None and complete.get(f"atomic_inter_{name}") is None:
            complete[f"atomic_inter_{name}"] = np.asarray(stored, dtype=np.float64)
    return complete


def _check_basis(hyperparameters: Mapping[str, Any], weights: Weights) -> None:
    """Refuse a reduced basis of couplings when nothing shows which one it is."""
    stored = any(".U_matrix_" in name for name in weights)
    if hyperparameters.get("use_reduced_cg") and not stored:
        raise MlipError(
            "use_reduced_cg=True, but the weights do not hold the couplings they belong to "
            "(….U_matrix_…), so that these cannot be compared; export the buffers too."
        )


class _Loader:
    """Copies torch arrays into a module, remembering what was used."""

    def __init__(self, weights: Weights, e0: Mapping[int, float], dtype: jnp.dtype) -> None:
        self._weights, self._e0, self._dtype = weights, e0, dtype
        self._used: set[str] = set()

    def load(self, model: MACE) -> None:
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
        self._check_the_rest(model)

    def _check_the_rest(self, model: MACE) -> None:
        """Nothing is left over but constants, and they have the values used here."""
        for name in sorted(set(self._weights) - self._used):
            if not is_constant(name, self._weights[name], model.config, self._e0):
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
