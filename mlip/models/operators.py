"""The operators of a model's config: the fastest in the place of `auto`, and what was fitted."""

from __future__ import annotations

from typing import TypeVar

from mlip.models.common import ModelConfig
from mlip.tensor_products.auto import Choice, GraphSize, choose_convolution, choose_power
from mlip.tensor_products.build import family_of, shared_families
from mlip.tensor_products.cp_decomposition import CPFactors
from mlip.tensor_products.cp_fits import recorded
from mlip.tensor_products.registry import AutoSettings

C = TypeVar("C", bound=ModelConfig)


def choose_operators(config: C, size: GraphSize, dtype: str) -> tuple[C, list[str]]:
    """Time the operators that `auto` leaves open and put the fastest ones into the config.

    Where `auto` names no family, it is that of the operator that the model has by default.

    Args:
        config: of a model, complete but for its operators.
        size: of the graphs that the model will see.
        dtype: "float32" or "float64".

    Returns:
        The config without `auto`, and one sentence on each choice.
    """
    choices = {
        field: _choose(config, field, size, dtype)
        for field in config.operator_shapes()
        if isinstance(getattr(config, field), AutoSettings)
    }
    sentences = [_sentence(field, choice) for field, choice in choices.items()]
    chosen = {field: choice.settings for field, choice in choices.items()}
    return config.model_copy(update=chosen), sentences


def fits_of(config: ModelConfig) -> dict[str, CPFactors]:
    """The decompositions that were fitted for the operators of a model, by name."""
    with recorded() as found:
        type(config).model_validate(config.model_dump())  # which builds every operator
    return found


def _choose(config: ModelConfig, field: str, size: GraphSize, dtype: str) -> Choice:
    default = type(config).model_fields[field].default
    family = getattr(config, field).family or family_of(default, field)
    choose = {"convolution": choose_convolution, "product": choose_power}[field]
    return choose(family, config.operator_shapes()[field], size, dtype)  # type: ignore[operator]


def _sentence(field: str, choice: Choice) -> str:
    if choice.milliseconds:
        return f"{field}: {choice}"
    several = " or ".join(shared_families(field))
    return f"{field}: {choice}; model.{field}.family can be {several}, with several"
