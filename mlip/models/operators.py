"""Replacing `auto` in a model's config by the operator that is fastest for the graphs at hand."""

from __future__ import annotations

from typing import TypeVar

from mlip.models.mace import MACEConfig
from mlip.settings import Settings
from mlip.tensor_products.auto import GraphSize, choose_convolution, choose_power
from mlip.tensor_products.registry import AutoSettings

S = TypeVar("S", bound=Settings)


def choose_operators(config: S, size: GraphSize, dtype: str) -> tuple[S, list[str]]:
    """Time the operators that `auto` leaves open and put the fastest ones into the config.

    Args:
        config: of a model, complete but for its operators.
        size: of the graphs that the model will see.
        dtype: "float32" or "float64".

    Returns:
        The config without `auto`, and one sentence on each choice.
    """
    if not isinstance(config, MACEConfig):
        return config, []
    chosen, sentences = {}, []
    if isinstance(config.convolution, AutoSettings):
        choice = choose_convolution(
            config.convolution, _degrees(config), config.channels, size, dtype
        )
        chosen["convolution"] = choice.settings
        sentences.append(f"convolution: {choice}")
    if isinstance(config.product, AutoSettings):
        choice = choose_power(
            config.product,
            config.lmax,
            _output_degrees(config),
            config.correlation,
            len(config.elements),
            config.channels,
            size,
            dtype,
        )
        chosen["product"] = choice.settings
        sentences.append(f"product: {choice}")
    return config.model_copy(update=chosen), sentences


def _degrees(config: MACEConfig) -> list[tuple[int, int, int]]:
    inputs = [0] + [config.hidden_lmax] * (config.num_layers - 1)
    return [(input_lmax, config.lmax, config.lmax) for input_lmax in inputs]


def _output_degrees(config: MACEConfig) -> list[int]:
    return [config.hidden_lmax] * (config.num_layers - 1) + [0]
