"""The Gaunt product by two-dimensional Fourier series with analytic coefficients."""

from __future__ import annotations

from functools import cache
from math import log2, pi
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from pydantic import Field

from mlip.nn.irreps import dim
from mlip.settings import Settings
from mlip.tensor_products.fourier import azimuthal_products, polar_integrals, polar_series
from mlip.tensor_products.gaunt_coefficients import gaunt_normalization
from mlip.tensor_products.layout import split_reached
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths

Method = Literal["fft", "direct"]


class GauntFourierSettings(Settings):
    """Options of the Gaunt product by Fourier series."""

    name: Literal["gaunt_fourier"] = "gaunt_fourier"
    method: Method = Field(
        "fft",
        description="multiply two series on a torus (fft) or convolve their coefficients (direct)",
    )


class GauntFourier(NodeProduct):
    """The product of two functions on the sphere, formed from their Fourier series.

        z_l3m3 = n_l3 ∫ (Σ x_l1m1 Y_l1m1) (Σ y_l2m2 Y_l2m2) Y_l3m3 dΩ

    with harmonics of unit norm and n_l3 of `gaunt_normalization`, which gives unit variance.
    A harmonic is a Fourier series in both angles with the single order |v| = |m| of the azimuth,
    so that conversions are one small matrix (degree to u) for each m. Two series are multiplied
    by transforms to the points of a torus, padded with zeros to hold all orders of the product, or
    by a direct convolution. The coefficients of the conversions are closed forms, so that the
    result is exact to rounding.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
        method: `fft` or `direct`.

    Source: Luo, Chen and Krishnapriyan, ICLR 2024, arXiv:2401.10216.
    """

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int, method: Method = "fft") -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        self.method = method

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """One for each degree."""
        check_paths(self, paths)
        return (1,) * (self.output_lmax + 1)

    def multiplies(self, paths: Paths = "even") -> int:
        """Conversions, and either n log₂ n for each of three real transforms or the convolution."""
        check_paths(self, paths)
        lmaxes = (self.lmax1, self.lmax2, self.output_lmax)
        orders1, orders2, orders3 = (2 * lmax + 1 for lmax in lmaxes)
        back = dim(self.output_lmax) * (self.lmax1 + self.lmax2 + 1)
        if self.method == "direct":
            shifted = (self.lmax1 + self.lmax2 + 1) * orders2
            to_series = dim(self.lmax1) * shifted + dim(self.lmax2) * orders2
            product = orders1 * orders3 * (orders2**2 + shifted)
        else:
            points = int(np.prod(_torus(*lmaxes)))
            to_series = dim(self.lmax1) * orders1 + dim(self.lmax2) * orders2
            product = int(points * (1 + 3 * log2(points)))
            back *= 2
        return to_series + product + back

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        multiply = _multiply_on_torus if self.method == "fft" else _convolve
        z = multiply(x, y, (self.lmax1, self.lmax2, self.output_lmax))
        return split_reached(jnp.moveaxis(z, 0, -2), self.copies(paths))


Degrees = tuple[int, int, int]
"""lmax1, lmax2 and the highest degree of the result."""


def _multiply_on_torus(
    x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"], degrees: Degrees
) -> Float[Array, "d3 *batch channels"]:
    """Fourier series to values on a torus, where they are multiplied, and back."""
    shape = _torus(*degrees)
    values = [
        jnp.fft.irfft2(_spectrum(part, lmax, shape[0]), s=shape, norm="forward")
        for part, lmax in ((x, degrees[0]), (y, degrees[1]))
    ]
    spectrum = jnp.fft.rfft2(values[0] * values[1], norm="forward")[..., : degrees[2] + 1]
    parts = jnp.stack([jnp.real(spectrum), jnp.imag(spectrum)], axis=-3)  # (..., 2, u, m)
    series = jnp.swapaxes(parts, -1, -2).reshape(*x.shape[:-2], x.shape[-1], -1, shape[0])
    return _torus_analysis(degrees, shape[0]).to_harmonics(series)


def _spectrum(
    x: Float[Array, "*batch d channels"], lmax: int, points: int
) -> Complex[Array, "*batch channels u m"]:
    """The half with m ≥ 0 of the complex Fourier coefficients."""
    series = _torus_synthesis(lmax, points).to_series(x)
    parts = jnp.swapaxes(series.reshape(*series.shape[:-2], 2, lmax + 1, points), -1, -2)
    return jax.lax.complex(parts[..., 0, :, :], parts[..., 1, :, :])


def _convolve(
    x: Float[Array, "*batch d1 channels"], y: Float[Array, "*batch d2 channels"], degrees: Degrees
) -> Float[Array, "d3 *batch channels"]:
    """Z_w,m3 = Σ_{m1 u} (Σ_m2 q_m1m2m3 Y_u,m2) X_w−u,m1 as one matrix product; w ≥ 0 suffices."""
    lmax1, lmax2, lmax3 = degrees
    shifted = _shifted_synthesis(lmax1, lmax2).to_series(x)
    shifted = shifted.reshape(*shifted.shape[:-1], lmax1 + lmax2 + 1, 2 * lmax2 + 1)
    first = jnp.swapaxes(shifted, -2, -3)  # (..., w, m1, u)
    series = _signed_synthesis(lmax2).to_series(y)
    coupling = jnp.asarray(_azimuthal_coupling(*degrees), x.dtype)
    second = jnp.einsum("...bu,abk->...auk", series, coupling)
    product = jnp.matmul(
        first.reshape(*first.shape[:-2], -1), second.reshape(*second.shape[:-3], -1, 2 * lmax3 + 1)
    )
    return _signed_analysis(degrees).to_harmonics(jnp.swapaxes(product, -1, -2))


class _Conversion(NamedTuple):
    """A map between harmonics and Fourier series: for each order k a matrix from degree to u.

    Attributes:
        component: the component of order k and degree l.
        table: the coefficients; zero where there is no such component.
    """

    component: Int[np.ndarray, "k l"]
    table: Float[np.ndarray, "k l u"]

    def to_series(
        self, x: Float[Array, "*batch d channels"]
    ) -> Float[Array, "*batch channels k u"]:
        """Fourier coefficients of functions given in harmonics."""
        rows = jnp.moveaxis(x, -2, 0)[self.component.astype(np.int32)]  # right with x64 or without
        series = jnp.einsum("kl...,klu->k...u", rows, jnp.asarray(self.table, x.dtype))
        return jnp.moveaxis(series, 0, -2)

    def to_harmonics(
        self, series: Float[Array, "*batch channels k u"]
    ) -> Float[Array, "d *batch channels"]:
        """The transposed map."""
        table = jnp.asarray(self.table, series.dtype)
        rows = jnp.einsum("...ku,klu->kl...", series, table)
        used = np.any(self.table, axis=-1)
        position = np.zeros(np.count_nonzero(used), np.int32)
        position[self.component[used]] = np.flatnonzero(used)
        return rows.reshape(-1, *rows.shape[2:])[position]


def _torus(lmax1: int, lmax2: int, lmax3: int) -> tuple[int, int]:
    """Points along θ, for all orders of the product, and along φ, for those up to lmax3."""
    azimuthal = max(lmax1 + lmax2 + lmax3 + 1, 2 * max(lmax1, lmax2) + 1)
    return _fast_length(2 * (lmax1 + lmax2) + 1), _fast_length(azimuthal)


def _fast_length(least: int) -> int:
    """The next number without prime factors above 5."""
    length = least
    while pow(30, length.bit_length(), length):
        length += 1
    return length


@cache
def _torus_synthesis(lmax: int, points: int) -> _Conversion:
    """To real and imaginary part of c_um with Σ_uv c_uv e^{i(uθ + vφ)}, for v = m ≥ 0."""
    index, signs = _complex_orders(lmax)
    halves = np.where(np.arange(lmax + 1) == 0, 1.0, 0.5)[:, None, None]
    table = signs[..., None, None] * (halves * polar_series(lmax))
    return _in_transform_order(index, table, points)


@cache
def _torus_analysis(degrees: Degrees, points: int) -> _Conversion:
    """From real and imaginary part of c_um, which give 2π {Re, −Im} in the integral over φ."""
    lmax1, lmax2, lmax3 = degrees
    index, signs = _complex_orders(lmax3)
    integrals = 2 * pi * polar_integrals(lmax3, lmax1 + lmax2) * _normalization(degrees)[:, None]
    table = signs[..., None, None] * integrals
    return _in_transform_order(index, table, points)


def _complex_orders(lmax: int) -> tuple[Int[np.ndarray, "2 m l"], Float[np.ndarray, "2 m"]]:
    """Components behind the real and the imaginary part of ι_m (x_l,m − i x_l,−m), and signs."""
    part, m, l = np.indices((2, lmax + 1, lmax + 1))
    order = np.where((part + m) % 2 == 0, m, -m)
    signs = np.where((part + m) % 2 == 0, 1.0, -1.0)[..., 0]
    signs[1] = -1.0
    signs[1, 0] = 0.0
    return np.maximum(l * (l + 1) + order, 0), signs


def _in_transform_order(
    index: Int[np.ndarray, "2 m l"], table: Float[np.ndarray, "2 m l u"], points: int
) -> _Conversion:
    """Positive u first and the negative ones last, with zeros between."""
    highest = table.shape[-1] // 2
    padded = np.zeros((*table.shape[:-1], points))
    padded[..., np.arange(-highest, highest + 1) % points] = table
    return _Conversion(index.reshape(-1, index.shape[-1]), padded.reshape(-1, *padded.shape[2:]))


@cache
def _signed_synthesis(lmax: int) -> _Conversion:
    """To s_u,m with Σ_um s_um ι_m e^{iuθ} t_m(φ), m from −lmax."""
    orders = np.arange(-lmax, lmax + 1)
    degrees = np.arange(lmax + 1)
    index = np.maximum(degrees * (degrees + 1) + orders[:, None], 0)
    return _Conversion(index, polar_series(lmax)[np.abs(orders)])


@cache
def _shifted_synthesis(lmax1: int, lmax2: int) -> _Conversion:
    """To s_w−u,m for w = 0..lmax1 + lmax2 and u = −lmax2..lmax2, one after the other."""
    index, table = _signed_synthesis(lmax1)
    padded = np.pad(table, ((0, 0), (0, 0), (2 * lmax2, 2 * lmax2)))
    w, u = np.arange(lmax1 + lmax2 + 1)[:, None], np.arange(-lmax2, lmax2 + 1)
    shifted = padded[..., w - u + lmax1 + 2 * lmax2]
    return _Conversion(index, shifted.reshape(*shifted.shape[:2], -1))


@cache
def _signed_analysis(degrees: Degrees) -> _Conversion:
    """From s_w,m with w ≥ 0; a negative w gives the same again."""
    lmax1, lmax2, lmax3 = degrees
    orders, w = np.arange(-lmax3, lmax3 + 1), np.arange(lmax1 + lmax2 + 1)
    over_azimuth = np.where(orders == 0, 2 * pi, pi)
    both_signs = np.where(w == 0, 1.0, 2.0)
    integrals = polar_integrals(lmax3, lmax1 + lmax2)[np.abs(orders), :, lmax1 + lmax2 :]
    table = over_azimuth[:, None, None] * integrals * both_signs
    return _Conversion(_signed_synthesis(lmax3).component, table * _normalization(degrees)[:, None])


def _normalization(degrees: Degrees) -> Float[np.ndarray, "degrees"]:
    """Of each degree, for series of component-normalised harmonics: √4π times unit norm."""
    return gaunt_normalization(*degrees) / (4 * pi) ** 1.5


@cache
def _azimuthal_coupling(lmax1: int, lmax2: int, lmax3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """Products of cosines and sines of φ, times ι_m1 ι_m2 / ι_m3 = −1 for two odd orders."""
    odd1, odd2 = np.arange(-lmax1, lmax1 + 1) % 2, np.arange(-lmax2, lmax2 + 1) % 2
    signs = 1.0 - 2.0 * odd1[:, None] * odd2
    return signs[..., None] * azimuthal_products(lmax1, lmax2, lmax3)
