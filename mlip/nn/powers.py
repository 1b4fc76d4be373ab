"""What all many-body products of a feature with itself refuse."""

from __future__ import annotations

from jaxtyping import Array, Float

from mlip.errors import MlipError
from mlip.nn.irreps import dim

MAX_CORRELATION = 4


def check_power(lmax: int, hidden_lmax: int, correlation: int) -> None:
    """Refuse sizes that a many-body product cannot have.

    Args:
        lmax: highest degree of the feature.
        hidden_lmax: highest degree of the result.
        correlation: highest number of factors.

    Raises:
        MlipError: naming the number and its bounds.
    """
    if min(lmax, hidden_lmax) < 0:
        raise MlipError(
            f"A many-body product of degree {min(lmax, hidden_lmax)} was asked for; expected 0 or "
            "more."
        )
    if not 1 <= correlation <= MAX_CORRELATION:
        raise MlipError(
            f"A many-body product of {correlation} factors was asked for; expected a correlation "
            f"of 1 to {MAX_CORRELATION}."
        )
    if hidden_lmax > lmax:
        raise MlipError(
            f"A many-body product to degree hidden_lmax={hidden_lmax} was asked for, but its first "
            f"order, the feature itself, ends at degree lmax={lmax}; lower hidden_lmax or raise "
            "lmax."
        )


def check_feature(x: Float[Array, "N d channels"], lmax: int, channels: int) -> None:
    """Refuse a feature of another layout than a many-body product was built for.

    Args:
        x: the feature.
        lmax: highest degree expected.
        channels: channels expected.

    Raises:
        MlipError: naming both shapes.
    """
    if x.shape[1:] != (dim(lmax), channels):
        raise MlipError(
            f"A many-body product was given a feature of shape {x.shape}; expected (atoms, "
            f"{dim(lmax)}, {channels}) for degrees 0 to {lmax} and {channels} channels."
        )
