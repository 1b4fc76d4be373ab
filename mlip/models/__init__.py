"""Models: each a composition of building blocks, readable as its paper's figure."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx
from jax.typing import DTypeLike

from mlip.models.common import ModelConfig
from mlip.models.escn import ESCN, ESCNConfig
from mlip.models.mace import MACE, MACEConfig
from mlip.models.nequip import NequIP, NequIPConfig
from mlip.models.operators import choose_operators, fits_of
from mlip.models.tdn import TDN, TDNConfig

__all__ = ["MODEL_CONFIGS", "ModelConfig", "build_model", "choose_operators", "fits_of"]

_MODELS: dict[type[ModelConfig], Callable[..., nnx.Module]] = {
    MACEConfig: MACE,
    NequIPConfig: NequIP,
    TDNConfig: TDN,
    ESCNConfig: ESCN,
}
MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    str(config.model_fields["name"].default): config for config in _MODELS
}


def build_model(config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike) -> nnx.Module:
    """A freshly initialised model.

    Args:
        config: one of the classes in `MODEL_CONFIGS`.
        rngs: source of the initial weights.
        dtype: floating-point type of weights and arithmetic.
    """
    return _MODELS[type(config)](config, rngs=rngs, dtype=dtype)
