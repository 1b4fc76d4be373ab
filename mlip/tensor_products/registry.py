"""All tensor products by name: the one place to enter a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, TypeVar

from flax import nnx
from jax.typing import DTypeLike
from pydantic import Field

from mlip.errors import MlipError
from mlip.nn.symmetric_contraction import SymmetricContraction, SymmetricContractionSettings
from mlip.settings import Settings
from mlip.tensor_products.channelwise import ChannelwiseConvolution, ChannelwiseSettings
from mlip.tensor_products.clebsch_gordan import (
    ClebschGordanDense,
    ClebschGordanDenseSettings,
    ClebschGordanSparse,
    ClebschGordanSparseSettings,
)
from mlip.tensor_products.cp import CPSettings, cp_convolution, cp_product
from mlip.tensor_products.edgewise import EdgewiseConvolution, Weighting
from mlip.tensor_products.gaunt import (
    GauntGrid,
    GauntGridSettings,
    GauntQuadrature,
    GauntQuadratureSettings,
)
from mlip.tensor_products.gaunt_coefficients import gaunt_tensor
from mlip.tensor_products.gaunt_fourier import GauntFourier, GauntFourierSettings
from mlip.tensor_products.matrix import MatrixProduct, MatrixProductSettings
from mlip.tensor_products.moments import MomentConvolution
from mlip.tensor_products.path_shared import (
    PathShared,
    PathSharedConvolution,
    PathSharedSettings,
)
from mlip.tensor_products.poisson import GauntPoisson, GauntPoissonSettings
from mlip.tensor_products.power import ProductPower
from mlip.tensor_products.protocol import Convolution, NodeProduct
from mlip.tensor_products.so2 import SO2Convolution, SO2Settings
from mlip.tensor_products.sphere import GridTransform, PointTransform, SphereTransform
from mlip.tensor_products.sphere_power import SpherePower
from mlip.tensor_products.vector_signal import VectorSignal, VectorSignalSettings

B = TypeVar("B")


class AutoSettings(Settings):
    """The wish for the fastest operator of a family; replaced by it before a model is built."""

    name: Literal["auto"] = "auto"
    family: str | None = Field(
        None, description="what the operator must compute; null: as the model's default operator"
    )


class Operator(NamedTuple):
    """How an operator is built in each role; `None` for a role it cannot play.

    Every builder takes the operator's settings first.

    Attributes:
        settings: its options; the field `name` is its name.
        product: (settings, lmax1, lmax2, output_lmax) to the bilinear product.
        convolution: (settings, input_lmax, harmonics_lmax, output_lmax) to the convolution.
        power: (settings, lmax, hidden_lmax, correlation, num_elements, channels, rngs=, dtype=)
            to the many-body product; made of `product` where left out.
        family: what it computes; operators of one family compute the same in different ways.
    """

    settings: type[Settings]
    product: Callable[..., NodeProduct] | None = None
    convolution: Callable[..., Convolution] | None = None
    power: Callable[..., nnx.Module] | None = None
    family: str = ""

    @property
    def name(self) -> str:
        """As in `tensor_product@model.product=NAME`."""
        return str(self.settings.model_fields["name"].default)

    @property
    def roles(self) -> tuple[str, ...]:
        """The places in a model it can take: `convolution`, `product`."""
        can = {"convolution": self.convolution, "product": self.power or self.product}
        return tuple(role for role, builder in can.items() if builder is not None)


def _plain(operator: type[NodeProduct]) -> Callable[..., NodeProduct]:
    """Builder of a product without options."""
    return lambda settings, *degrees: operator(*degrees)


def _edgewise(
    product: Callable[..., NodeProduct], weighting: Weighting = "degree"
) -> Callable[..., Convolution]:
    """Builder of the convolution of a product."""
    return lambda settings, *degrees: EdgewiseConvolution(product(settings, *degrees), weighting)


def _gaunt_moments(operator: type[NodeProduct]) -> Callable[..., Convolution]:
    """Builder of the convolution of a Gaunt product, the same for all of them."""
    return lambda settings, *degrees: MomentConvolution(
        operator(*degrees), gaunt_tensor(*degrees), "degree"
    )


def _sphere_power(transform: type[SphereTransform]) -> Callable[..., nnx.Module]:
    """Builder of powers at the points of a transform."""
    return lambda settings, *sizes, **kwargs: SpherePower(transform, *sizes, **kwargs)


_sparse = _plain(ClebschGordanSparse)


def _gaunt_fourier(settings: GauntFourierSettings, l1: int, l2: int, l3: int) -> NodeProduct:
    return GauntFourier(l1, l2, l3, settings.method)


OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            ChannelwiseSettings,
            product=_sparse,
            convolution=lambda settings, *degrees: ChannelwiseConvolution(*degrees),
            family="clebsch_gordan",
        ),
        Operator(
            SymmetricContractionSettings,
            power=lambda settings, *sizes, **kwargs: SymmetricContraction(*sizes, **kwargs),
        ),
        Operator(
            ClebschGordanDenseSettings,
            product=_plain(ClebschGordanDense),
            convolution=_edgewise(_plain(ClebschGordanDense), "copy"),
            family="clebsch_gordan",
        ),
        Operator(
            ClebschGordanSparseSettings,
            product=_sparse,
            convolution=_edgewise(_sparse, "copy"),
            family="clebsch_gordan",
        ),
        Operator(
            PathSharedSettings,
            product=_plain(PathShared),
            convolution=lambda settings, *degrees: PathSharedConvolution(*degrees),
        ),
        Operator(CPSettings, product=cp_product, convolution=cp_convolution),
        Operator(
            SO2Settings,
            convolution=lambda settings, l1, l2, l3: SO2Convolution(l1, l2, l3, settings.mmax),
        ),
        Operator(
            GauntFourierSettings,
            product=_gaunt_fourier,
            convolution=_edgewise(_gaunt_fourier),
            family="gaunt",
        ),
        Operator(
            GauntQuadratureSettings,
            product=_plain(GauntQuadrature),
            convolution=_gaunt_moments(GauntQuadrature),
            power=_sphere_power(PointTransform),
            family="gaunt",
        ),
        Operator(
            GauntGridSettings,
            product=_plain(GauntGrid),
            convolution=_gaunt_moments(GauntGrid),
            power=_sphere_power(GridTransform),
            family="gaunt",
        ),
        Operator(GauntPoissonSettings, product=_plain(GauntPoisson)),
        Operator(
            MatrixProductSettings,
            product=_plain(MatrixProduct),
            convolution=_edgewise(_plain(MatrixProduct)),
        ),
        Operator(
            VectorSignalSettings,
            product=_plain(VectorSignal),
            convolution=_edgewise(_plain(VectorSignal)),
        ),
    )
}

TensorProductSettings = Annotated[
    AutoSettings
    | ChannelwiseSettings
    | SymmetricContractionSettings
    | ClebschGordanDenseSettings
    | ClebschGordanSparseSettings
    | PathSharedSettings
    | CPSettings
    | SO2Settings
    | GauntFourierSettings
    | GauntQuadratureSettings
    | GauntGridSettings
    | GauntPoissonSettings
    | MatrixProductSettings
    | VectorSignalSettings,
    Field(discriminator="name"),
]


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
