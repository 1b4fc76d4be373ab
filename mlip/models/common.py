"""What the configs of all models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from mlip.settings import Settings
from mlip.tensor_products.registry import check_role


class ConvolutionUse(NamedTuple):
    """The convolutions that a model builds from one operator of its config.

    Attributes:
        degrees: (input_lmax, harmonics_lmax, output_lmax) of each.
        channels: channels of the features.
    """

    degrees: tuple[tuple[int, int, int], ...]
    channels: int


class PowerUse(NamedTuple):
    """The many-body products that a model builds from one operator of its config.

    Attributes:
        lmax: highest degree of the feature.
        hidden_lmax: highest degree of the result of each.
        correlation: highest number of factors.
        num_elements: number of elements.
        channels: channels.
    """

    lmax: int
    hidden_lmax: tuple[int, ...]
    correlation: int
    num_elements: int
    channels: int


class ModelConfig(Settings):
    """Base of every model's config: everything that fixes a model but its weights.

    A field named `convolution` or `product` holds the settings of an operator that can play this
    role; a subclass lists in `operator_uses` what it builds from each.
    """

    name: str
    elements: tuple[int, ...] = Field(
        min_length=1, description="atomic numbers the model knows, ascending; from the data"
    )
    cutoff: float = Field(5.0, gt=0, description="radius of a message, Å")
    avg_num_neighbors: float = Field(1.0, gt=0, description="average neighbours; from the data")
    scale: float = Field(1.0, gt=0, description="scale of the atomic energies, eV; from the data")
    shift: float = Field(0.0, description="shift of the atomic energies, eV; from the data")

    @field_validator("elements")
    @classmethod
    def _ascend(cls, elements: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if elements and list(elements) != sorted(set(elements) & set(range(1, 119))):
            raise ValueError("expected atomic numbers from 1 to 118, ascending, each once")
        return elements

    @field_validator("convolution", "product", check_fields=False)
    @classmethod
    def _plays_its_role(cls, operator: Settings, info: ValidationInfo) -> Settings:
        check_role(operator, str(info.field_name))
        return operator

    def operator_uses(self) -> Mapping[str, ConvolutionUse | PowerUse]:
        """What the model builds from the operators of its config, by field: for `auto`."""
        return {}
