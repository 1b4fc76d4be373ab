"""Tensor products from their settings: the operator of a configuration in one of its roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flax import nnx
from jax.typing import DTypeLike

from mlip.errors import MlipError
from mlip.settings import Settings
from mlip.tensor_products.power import ProductPower
from mlip.tensor_products.protocol import Convolution, NodeProduct
from mlip.tensor_products.registry import OPERATORS, AutoSettings, Operator

B = TypeVar("B")


def build_product(settings: Settings, lmax1: int, lmax2: int, output_lmax: int) -> NodeProduct:
    """The bilinear product of two features of one atom.

    Raises:
        MlipError: for an operator that is none, or that cannot take or give these degrees.
    """
    builder = _needed(_operator(settings).product, settings, "product of two features")
    return builder(settings, lmax1, lmax2, output_lmax)


def build_convolution(
    settings: Settings, input_lmax: int, harmonics_lmax: int, output_lmax: int
) -> Convolution:
    """The edge convolution.

    Raises:
        MlipError: for an operator that is none, or that cannot take or give these degrees.
    """
    builder = _needed(_operator(settings).convolution, settings, "convolution")
    return builder(settings, input_lmax, harmonics_lmax, output_lmax)


def build_power(
    settings: Settings,
    lmax: int,
    hidden_lmax: int,
    correlation: int,
    num_elements: int,
    channels: int,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike,
) -> nnx.Module:
    """The many-body product of a feature with itself: called with features and species.

    Args:
        settings: of the operator.
        lmax: highest degree of the feature.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors.
        num_elements: number of elements.
        channels: channels of the feature and of the result.
        rngs: source of the initial weights.
        dtype: floating-point type.

    Raises:
        MlipError: for an operator that is none, or that cannot take or give these degrees.
    """
    operator = _operator(settings)
    sizes = (num_elements, channels)
    if operator.power is not None:
        return operator.power(
            settings, lmax, hidden_lmax, correlation, *sizes, rngs=rngs, dtype=dtype
        )
    product = _needed(operator.product, settings, "many-body product")

    def build(output_lmax: int) -> NodeProduct:
        return product(settings, lmax, lmax, output_lmax)

    return ProductPower(build, lmax, hidden_lmax, correlation, *sizes, rngs=rngs, dtype=dtype)


def family_of(settings: Settings) -> str:
    """What an operator computes: the name of its family, its own where it has none."""
    operator = _operator(settings)
    return operator.family or operator.name


def family_members(family: str, role: str) -> list[Operator]:
    """The operators of a family that can play a role (`convolution`, `product`).

    Raises:
        MlipError: where there is none, naming the families.
    """
    able = [operator for operator in OPERATORS.values() if role in operator.roles]
    members = [operator for operator in able if (operator.family or operator.name) == family]
    if role == "product" and any(operator.power for operator in members):
        # A power of its own is another map than the one made of bilinear products.
        members = [operator for operator in members if operator.power]
    if not members:
        families = sorted({operator.family or operator.name for operator in able})
        raise MlipError(
            f"No {role} of family {family} is known; expected one of {', '.join(families)}."
        )
    return members


def check_role(settings: Settings, role: str) -> None:
    """Raise for an operator that cannot play a role.

    Raises:
        ValueError: naming the operators that can, for the settings that it is a part of.
    """
    if isinstance(settings, AutoSettings):
        return
    operator = _operator(settings)
    if role not in operator.roles:
        able = ", ".join(name for name, other in OPERATORS.items() if role in other.roles)
        raise ValueError(f"{operator.name} cannot be used as {role}; expected one of {able}.")


def _operator(settings: Settings) -> Operator:
    if isinstance(settings, AutoSettings):
        raise MlipError(
            "The operator 'auto' has not been replaced by a real one: call "
            "mlip.models.choose_operators first, or name an operator."
        )
    return OPERATORS[settings.name]  # type: ignore[attr-defined]


def _needed(builder: Callable[..., B] | None, settings: Settings, role: str) -> Callable[..., B]:
    if builder is None:
        name = _operator(settings).name
        raise MlipError(f"{name} cannot be used as a {role}; clebsch_gordan_dense can.")
    return builder
