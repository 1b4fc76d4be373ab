"""What the configs of all models have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import jax
from flax import nnx
from pydantic import Field, ValidationInfo, field_validator, model_validator

from mlip.settings import Settings
from mlip.tensor_products.auto import ConvolutionShape, PowerShape
from mlip.tensor_products.build import check_convolutions, check_powers, check_role

OperatorShapes = Sequence[ConvolutionShape] | Sequence[PowerShape]


class ModelConfig(Settings):
    """Base of every model's config: everything that fixes a model but its weights.

    A field named `convolution` or `product` holds the settings of an operator that can play this
    role; a subclass lists in `operator_shapes` what it builds from each, for `auto` to compare.
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

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        self.check_sizes()
        # Degrees do not depend on the elements, which may still be open.
        known = self if self.elements else self.model_copy(update={"elements": (1,)})
        for field, shapes in known.operator_shapes().items():
            operator = getattr(self, field)
            if field == "convolution":
                check_convolutions(operator, [shape[:3] for shape in shapes])
            else:
                check_powers(operator, [shape[:3] for shape in shapes])
        return self

    def check_sizes(self) -> None:
        """Refuse numbers that do not fit one another.

        Raises:
            ValueError: naming them.
        """

    def operator_shapes(self) -> Mapping[str, OperatorShapes]:
        """Sizes of what the model builds from each operator of its config, by field."""
        return {}


def mask_by_name(model: nnx.Module, names: set[str]) -> nnx.State:
    """True for the weights that have one of these names in their path, false for the others.

    Args:
        model: whose weights.
        names: of the weights themselves, or of modules that hold them.
    """

    def is_named(path: tuple[object, ...], _: object) -> bool:
        return not names.isdisjoint(str(getattr(key, "key", key)) for key in path)

    return jax.tree_util.tree_map_with_path(is_named, nnx.state(model, nnx.Param))
