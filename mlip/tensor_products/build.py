"""Tensor products from their settings: the operator of a configuration in one of its roles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TypeVar

from flax import nnx
from jax.typing import DTypeLike

from mlip.errors import MlipError
from mlip.settings import Settings
from mlip.tensor_products.power import ProductPower, power_products
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


def family_of(settings: Settings, role: str) -> str:
    """What an operator computes in a role (`convolution`, `product`)."""
    return _operator(settings).family_as(role)


def family_members(family: str, role: str) -> list[Operator]:
    """The operators of a family that can play a role (`convolution`, `product`).

    Raises:
        MlipError: where there is none, naming the families of several operators.
    """
    known = families(role)
    if family not in known:
        near = get_close_matches(family, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise MlipError(
            f"No {role} of family {family} is known; expected {' or '.join(shared_families(role))}."
            f"{meant}"
        )
    return known[family]


def shared_families(role: str) -> list[str]:
    """The families that several operators belong to in a role."""
    return [name for name, members in families(role).items() if len(members) > 1]


def families(role: str) -> dict[str, list[Operator]]:
    """The operators that can play a role, by family."""
    able = [operator for operator in OPERATORS.values() if role in operator.roles]
    found: dict[str, list[Operator]] = {}
    for operator in sorted(able, key=lambda operator: operator.family_as(role)):
        found.setdefault(operator.family_as(role), []).append(operator)
    if role == "product":
        # A power of its own is another map than the one made of bilinear products.
        with_power = {name: [one for one in group if one.power] for name, group in found.items()}
        found = {name: with_power[name] or group for name, group in found.items()}
    return found


def check_role(settings: Settings, role: str) -> None:
    """Raise for an operator, or a family of them, that cannot play a role.

    Raises:
        ValueError: naming those that can, for the settings that it is a part of.
    """
    if isinstance(settings, AutoSettings):
        if settings.family is not None:
            family_members(settings.family, role)
        return
    operator = _operator(settings)
    if role not in operator.roles:
        able = ", ".join(name for name, other in OPERATORS.items() if role in other.roles)
        raise ValueError(f"{operator.name} cannot be used as {role}; expected one of {able}.")


def check_convolutions(settings: Settings, degrees: Iterable[tuple[int, int, int]]) -> None:
    """Refuse an operator that cannot make the convolutions of a model.

    Args:
        settings: of the operator; `auto` is passed over, since it chooses among those that can.
        degrees: of features, harmonics and messages of each convolution.

    Raises:
        MlipError: for degrees that it cannot take or give, or an option that no convolution uses.
    """
    if not isinstance(settings, AutoSettings):
        every = sorted(set(degrees))
        for one in every:
            build_convolution(settings, *one)
        _check_options(settings, every)


def check_powers(settings: Settings, sizes: Iterable[tuple[int, int, int]]) -> None:
    """Refuse an operator that cannot make the many-body products of a model.

    Args:
        settings: of the operator; `auto` is passed over, since it chooses among those that can.
        sizes: lmax, hidden_lmax and correlation of each product.

    Raises:
        MlipError: for sizes that it cannot take or give, or an option that no product uses.
    """
    if isinstance(settings, AutoSettings):
        return
    operator = _operator(settings)
    every: set[tuple[int, int, int]] = set()
    for lmax, hidden_lmax, correlation in sorted(set(sizes)):
        if operator.power_check is not None:
            operator.power_check(lmax, hidden_lmax, correlation)
            continue
        build = partial(build_product, settings, lmax, lmax)
        products = power_products(build, lmax, hidden_lmax, correlation)
        every |= {(lmax, lmax, product.output_lmax) for product in products}
        if operator.even_twin and correlation < 3:
            raise MlipError(
                f"{operator.name} forms odd couplings, which take part in products of three and "
                f"more factors alone, but correlation={correlation} was asked for; "
                f"{operator.even_twin} does the same there."
            )
    _check_options(settings, sorted(every))


def _check_options(settings: Settings, degrees: Sequence[tuple[int, int, int]]) -> None:
    """Raise where an option changes nothing at any of these degrees."""
    without_effect = _operator(settings).without_effect
    if without_effect is None or not degrees:
        return
    reasons = [without_effect(settings, *one) for one in degrees]
    if all(reasons):
        raise MlipError(f"{reasons[-1]}.")


def _operator(settings: Settings) -> Operator:
    if isinstance(settings, AutoSettings):
        raise MlipError(
            "The operator 'auto' has not been replaced by a real one: call "
            "mlip.models.choose_operators first, or name an operator."
        )
    operator = OPERATORS.get(getattr(settings, "name", ""))
    if operator is None or not isinstance(settings, operator.settings):
        raise MlipError(
            "An operator is built from its settings, as OPERATORS[NAME].settings() gives them; "
            f"found {settings!r:.60}; the names are {', '.join(OPERATORS)}."
        )
    return operator


def _needed(builder: Callable[..., B] | None, settings: Settings, role: str) -> Callable[..., B]:
    if builder is None:
        name = _operator(settings).name
        raise MlipError(f"{name} cannot be used as a {role}; clebsch_gordan_dense can.")
    return builder
