"""All tensor products by name: the one place to enter a new one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, NamedTuple

from flax import nnx
from pydantic import Field

from mlip.nn.powers import check_power
from mlip.nn.symmetric_contraction import SymmetricContraction, SymmetricContractionSettings
from mlip.settings import Settings
from mlip.tensor_products.channelwise import ChannelwiseConvolution, ChannelwiseSettings
from mlip.tensor_products.clebsch_gordan import (
    ClebschGordanDense,
    ClebschGordanDenseSettings,
    ClebschGordanSparse,
    ClebschGordanSparseSettings,
)
from mlip.tensor_products.cp import (
    MAX_DEGREE,
    CPSettings,
    cp_convolution,
    cp_product,
    rank_that_is_exact,
)
from mlip.tensor_products.edgewise import EdgewiseConvolution, Weighting
from mlip.tensor_products.gaunt import (
    GauntGrid,
    GauntGridSettings,
    GauntQuadrature,
    GauntQuadratureSettings,
)
from mlip.tensor_products.gaunt_convolution import gaunt_convolution
from mlip.tensor_products.gaunt_fourier import GauntFourier, GauntFourierSettings
from mlip.tensor_products.matrix import MatrixProduct, MatrixProductSettings
from mlip.tensor_products.path_shared import (
    PathShared,
    PathSharedConvolution,
    PathSharedSettings,
)
from mlip.tensor_products.poisson import GauntPoisson, GauntPoissonSettings
from mlip.tensor_products.protocol import Convolution, NodeProduct
from mlip.tensor_products.so2 import SO2Convolution, SO2Settings, orders_that_are_not_there
from mlip.tensor_products.sphere import GridTransform, PointTransform, SphereTransform
from mlip.tensor_products.sphere_power import SpherePower
from mlip.tensor_products.vector_signal import VectorSignal, VectorSignalSettings


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
        power_check: (lmax, hidden_lmax, correlation) that `power` cannot take are refused.
        without_effect: (settings, three degrees) to a sentence where an option changes nothing.
        even_twin: an operator that does the same where odd couplings cannot take part.
        family: what it computes; operators of one family compute the same in different ways.
        product_family: what it computes as a product, where that is something else.
        last_degree: highest degree it takes and gives; `None`: any.
        complete: whether its many-body product reaches every coupling of natural parity.
    """

    settings: type[Settings]
    product: Callable[..., NodeProduct] | None = None
    convolution: Callable[..., Convolution] | None = None
    power: Callable[..., nnx.Module] | None = None
    power_check: Callable[..., object] | None = None
    without_effect: Callable[..., str | None] | None = None
    even_twin: str = ""
    family: str = ""
    product_family: str = ""
    last_degree: int | None = None
    complete: bool = False

    @property
    def name(self) -> str:
        """As in `tensor_product@model.product=NAME`."""
        return str(self.settings.model_fields["name"].default)

    @property
    def roles(self) -> tuple[str, ...]:
        """The places in a model it can take: `convolution`, `product`."""
        can = {"convolution": self.convolution, "product": self.power or self.product}
        return tuple(role for role, builder in can.items() if builder is not None)

    def family_as(self, role: str) -> str:
        """What it computes in a role: the name of its family, its own where it has none."""
        return (role == "product" and self.product_family) or self.family or self.name


def _plain(operator: type[NodeProduct]) -> Callable[..., NodeProduct]:
    """Builder of a product without options."""
    return lambda settings, *degrees: operator(*degrees)


def _edgewise(
    product: Callable[..., NodeProduct], weighting: Weighting = "degree"
) -> Callable[..., Convolution]:
    """Builder of the convolution of a product."""
    return lambda settings, *degrees: EdgewiseConvolution(product(settings, *degrees), weighting)


def _gaunt(operator: type[GauntQuadrature] | type[GauntGrid]) -> Callable[..., Convolution]:
    """Builder of the convolution of a Gaunt product."""
    return lambda settings, *degrees: gaunt_convolution(operator(*degrees))


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
            complete=True,
        ),
        Operator(
            SymmetricContractionSettings,
            power=lambda settings, *sizes, **kwargs: SymmetricContraction(*sizes, **kwargs),
            power_check=check_power,
            complete=True,
        ),
        Operator(
            ClebschGordanDenseSettings,
            product=_plain(ClebschGordanDense),
            convolution=_edgewise(_plain(ClebschGordanDense), "copy"),
            family="clebsch_gordan",
            complete=True,
        ),
        Operator(
            ClebschGordanSparseSettings,
            product=_sparse,
            convolution=_edgewise(_sparse, "copy"),
            family="clebsch_gordan",
            complete=True,
        ),
        Operator(
            PathSharedSettings,
            product=lambda settings, l1, l2, l3: PathShared(l1, l2, l3, settings.paths),
            convolution=lambda settings, l1, l2, l3: PathSharedConvolution(
                l1, l2, l3, settings.paths
            ),
            family="path_shared",
        ),
        Operator(
            CPSettings,
            product=cp_product,
            convolution=cp_convolution,
            without_effect=rank_that_is_exact,
            family="path_shared",
            product_family="cp",  # powers of path_shared go through pseudo-tensors as well
            last_degree=MAX_DEGREE,
        ),
        Operator(
            SO2Settings,
            convolution=lambda settings, l1, l2, l3: SO2Convolution(l1, l2, l3, settings.mmax),
            without_effect=orders_that_are_not_there,
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
            convolution=_gaunt(GauntQuadrature),
            power=_sphere_power(PointTransform),
            power_check=partial(SpherePower.points, PointTransform),
            family="gaunt",
        ),
        Operator(
            GauntGridSettings,
            product=_plain(GauntGrid),
            convolution=_gaunt(GauntGrid),
            power=_sphere_power(GridTransform),
            power_check=partial(SpherePower.points, GridTransform),
            family="gaunt",
        ),
        Operator(GauntPoissonSettings, product=_plain(GauntPoisson), even_twin="gaunt_quadrature"),
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
