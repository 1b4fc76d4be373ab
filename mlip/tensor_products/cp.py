"""The decomposed product: all couplings fused into one tensor, factorised into few products."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from pydantic import Field, StrictInt, field_validator
from safetensors.numpy import load_file

from mlip.errors import MlipError
from mlip.nn.irreps import degree_slice, dim
from mlip.nn.wigner import edge_frame
from mlip.settings import Settings
from mlip.tensor_products.cp_decomposition import EXACT, CPFactors, best_fit
from mlip.tensor_products.cp_fits import fitted
from mlip.tensor_products.fused import FusedPaths, fused_tensor
from mlip.tensor_products.pointwise import (
    MatrixPoints,
    PointwiseConvolution,
    PointwiseMatrices,
    PointwiseProduct,
)
from mlip.tensor_products.protocol import Paths, check_paths

Rank = Literal["exact", "paper"] | int

MAX_DEGREE = 4  # of the decompositions that come with the program
SHIPPED = Path(__file__).with_name("cp_factors")
SEEDS = range(4)  # of a fit on demand


class CPSettings(Settings):
    """Options of the decomposed product."""

    name: Literal["cp"] = "cp"
    rank: Literal["exact", "paper"] | StrictInt = Field(
        "exact",
        description="number of products: exact, paper (7 L² at most, approximate) or a number",
    )
    paths: FusedPaths = Field(
        "even",
        description="couplings: even respects mirror images, all mixes both parities",
    )
    shared_weights: bool = Field(
        True,
        description="one weight per edge and channel; false: one for each degree of the harmonics",
    )

    @field_validator("rank")
    @classmethod
    def _is_a_number_of_products(cls, rank: Rank) -> Rank:
        if isinstance(rank, int) and rank < 1:
            raise ValueError(f"a rank of {rank} was asked for; expected exact, paper or 1 or more.")
        return rank


class CPProduct(PointwiseProduct):
    """z_{l3} = n_{l3} A_{l3} [(Bᵀ x) ⊙ (Cᵀ y)], for one fixed tensor of all couplings.

        M_ijk = Σ_{r ≤ R} B_ir C_jr A_kr,   n_{l3} = √((2 l3+1) / number of couplings to l3)

    M holds every coupling with unit norm (`fused_tensor`); n gives the components of z unit
    variance where those of x and y have it. At the exact rank the map is equivariant to rounding;
    below it only about as much as R products can hold of M (`cp_error`). With the couplings `even`
    the result has natural parity; with `all` those of both parities are added, so that mirror
    images are not respected.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
        rank: see `cp_factors`.
        paths: the couplings in M.

    Raises:
        MlipError: for degrees above 4 or a rank below 1.

    Source: Lin et al., tensor decomposition networks (2025), section 4.
    """

    def __init__(
        self,
        lmax1: int,
        lmax2: int,
        output_lmax: int,
        rank: Rank = "exact",
        paths: FusedPaths = "even",
    ) -> None:
        super().__init__(lmax1, lmax2, output_lmax)
        degrees = (lmax1, lmax2, output_lmax)
        factors = cp_factors(*degrees, paths, rank)
        tensor = fused_tensor(*degrees, paths)
        self.paths: tuple[Paths, ...] = ("even",) if paths == "even" else ("mixed",)
        self.exact = factors.residual(tensor) < EXACT
        scale = _unit_variance(tensor)[:, None]
        self._matrices = PointwiseMatrices(factors.first, factors.second, (factors.third * scale).T)

    def matrices(self, paths: Paths) -> PointwiseMatrices:
        """The constants of one set of couplings."""
        check_paths(self, paths)
        return self._matrices


def cp_product(settings: CPSettings, lmax1: int, lmax2: int, output_lmax: int) -> CPProduct:
    """The product of two features of one atom."""
    return CPProduct(lmax1, lmax2, output_lmax, settings.rank, settings.paths)


def cp_convolution(
    settings: CPSettings, input_lmax: int, harmonics_lmax: int, output_lmax: int
) -> PointwiseConvolution:
    """The edge convolution.

    With shared weights a channel has one weight for each edge, whatever the couplings. Without,
    it has one for each degree of the harmonics, which is as far as the decomposition goes without
    storing the couplings apart: weights may enter a factor, but not single products of degrees.
    """
    weighting: Literal["shared", "degree"] = "shared" if settings.shared_weights else "degree"
    product = cp_product(settings, input_lmax, harmonics_lmax, output_lmax)
    points = MatrixPoints(product.matrices(product.paths[0]), weighting)
    return PointwiseConvolution(product, points)


def rank_that_is_exact(settings: CPSettings, *degrees: int) -> str | None:
    """A sentence where a number of products approximates nothing; else nothing."""
    if not isinstance(settings.rank, int):
        return None
    lmax1, lmax2, output_lmax = degrees
    exact = cp_factors(lmax1, lmax2, output_lmax, settings.paths, "exact").rank
    if settings.rank < exact:
        return None
    return (
        f"cp: a rank of {settings.rank} was asked for, but {exact} products are exact for degrees "
        f"{', '.join(map(str, degrees))}; ask for fewer, or for rank exact"
    )


def cp_factors(
    lmax1: int, lmax2: int, output_lmax: int, paths: FusedPaths, rank: Rank
) -> CPFactors:
    """The decomposition of the fused tensor of some degrees.

    Exact ones and those of rank 7 L² (L the highest degree that is reached) come with the program.
    Other ranks are fitted when asked for, in seconds up to L = 3, always from the same seeds, once
    in a process. Since two machines round differently, such fits may differ by more than rounding:
    a saved model holds its own (`cp_fits`).

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
        paths: the couplings.
        rank: `exact`; or `paper`, 7 L²; or a number. The exact one is never exceeded.

    Returns:
        three read-only factors, zero in degrees that are never reached.

    Raises:
        MlipError: for degrees above 4 or a rank below 1.
    """
    degrees = (lmax1, lmax2, output_lmax)
    order = sorted(range(3), key=degrees.__getitem__)
    low, middle, high = sorted(degrees)
    high = min(high, low + middle)
    if isinstance(rank, int) and rank < 1:
        raise MlipError(f"cp: a rank of {rank} was asked for; expected exact, paper or 1 or more.")
    if high > MAX_DEGREE:
        raise MlipError(
            f"cp: degree {max(degrees)} was asked for, decompositions reach degree {MAX_DEGREE}; "
            "gaunt_quadrature and clebsch_gordan_dense take any degree."
        )
    found = _sorted_factors((low, middle, high), paths, rank)
    # Coupling coefficients of an odd sum change sign with the order of the degrees.
    is_odd = np.linalg.det(np.eye(3)[order]) < 0
    factors = [np.empty(0)] * 3
    for slot, factor in zip(order, found, strict=True):
        factors[slot] = np.zeros((dim(degrees[slot]), found.rank))
        factors[slot][: len(factor)] = factor
        if is_odd:
            for l in range(1, degrees[slot] + 1, 2):
                factors[slot][degree_slice(l)] *= -1
        factors[slot].setflags(write=False)
    return CPFactors(*factors)


def _sorted_factors(degrees: tuple[int, int, int], paths: FusedPaths, rank: Rank) -> CPFactors:
    """Of degrees that ascend, the highest of which is reached."""
    exact = _exact_factors(degrees, paths)
    if rank == "exact":
        return exact
    limit = paper_rank(degrees[-1]) if rank == "paper" else rank
    if limit >= exact.rank:
        return exact
    shipped = factor_file(degrees, paths, "paper")
    if limit == paper_rank(degrees[-1]) and shipped.is_file():
        return CPFactors(**load_file(shipped))
    name = f"{paths}_{'_'.join(map(str, degrees))}_{limit}"
    return fitted(name, lambda: best_fit(fused_tensor(*degrees, paths), limit, SEEDS)[0])


@cache
def _exact_factors(degrees: tuple[int, int, int], paths: FusedPaths) -> CPFactors:
    """The shipped ones; or else those of three equal degrees, cut, if they beat trivial ones."""
    shipped, cube = (factor_file(d, paths, "exact") for d in (degrees, (degrees[-1],) * 3))
    if shipped.is_file():
        return CPFactors(**load_file(shipped))
    found = [_trivial_factors(fused_tensor(*degrees, paths))]
    if cube.is_file():
        whole = CPFactors(**load_file(cube))
        parts = [factor[: dim(lmax)] for factor, lmax in zip(whole, degrees, strict=True)]
        found.append(_without_zeros(*parts))
    return min(found, key=lambda factors: factors.rank)


def _trivial_factors(tensor: Float[np.ndarray, "d1 d2 d3"]) -> CPFactors:
    """One product for each pair of components of the first two slots that couple."""
    d1, d2, d3 = tensor.shape
    first, second = np.repeat(np.eye(d1), d2, axis=1), np.tile(np.eye(d2), d1)
    return _without_zeros(first, second, tensor.reshape(d1 * d2, d3).T)


def _without_zeros(*factors: Float[np.ndarray, "d R"]) -> CPFactors:
    """The products that are not zero."""
    used = np.all([np.any(factor, axis=0) for factor in factors], axis=0)
    return CPFactors(*(factor[:, used] for factor in factors))


def paper_rank(lmax: int) -> int:
    """7 L², the rank of the publication; 1 for scalars."""
    return max(7 * lmax**2, 1)


def factor_file(
    degrees: tuple[int, int, int], paths: FusedPaths, rank: Literal["exact", "paper"]
) -> Path:
    """Where a decomposition for ascending degrees lies."""
    return SHIPPED / f"{paths}_{'_'.join(map(str, degrees))}_{rank}.safetensors"


def _unit_variance(tensor: Float[np.ndarray, "d1 d2 d3"]) -> Float[np.ndarray, "d3"]:
    """Factors that give Σ M_ijk x_i y_j unit variance; zero where nothing is reached."""
    variance = np.sum(tensor**2, axis=(0, 1))
    return np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)


class CPError(NamedTuple):
    """How far a decomposed product is from equivariance, for factors of unit length.

    Attributes:
        measured: largest ‖T(g x, g y) − g T(x, y)‖ found.
        bound: 2 ‖M − Σ‖, which it cannot exceed.
    """

    measured: float
    bound: float


def cp_error(lmax: int, rank: Rank, paths: FusedPaths, rotations: int = 20) -> CPError:
    """Violation of rotational symmetry for three equal degrees, beside its bound.

    For each of some random rotations g the bilinear map T(g·, g·) − g T(·, ·) is maximised over
    unit vectors x and y in turn. T has coupling blocks of unit norm, as in `fused_tensor`. For
    vectors of length C both numbers grow by C².

    Args:
        lmax: highest degree of both factors and of the result.
        rank: see `cp_factors`.
        paths: the couplings.
        rotations: how many.

    Raises:
        MlipError: for degrees above 4 or a rank below 1.

    Source of the bound: Lin et al., tensor decomposition networks (2025), section 4.
    """
    degrees = (lmax, lmax, lmax)
    tensor = cp_factors(*degrees, paths, rank).tensor()
    rng = np.random.default_rng(0)
    measured = 0.0
    for matrix in _rotation_matrices(rng, lmax, rotations):
        turned = np.einsum("abk,ai,bj->ijk", tensor, matrix, matrix, optimize=True)
        measured = max(measured, _largest_value(turned - tensor @ matrix.T, rng))
    return CPError(
        measured, 2 * float(np.linalg.norm(tensor - fused_tensor(lmax, lmax, lmax, paths)))
    )


def _rotation_matrices(rng: np.random.Generator, lmax: int, count: int) -> list[np.ndarray]:
    """Random rotations of features, float64: from one direction to the pole and on to another."""
    directions = rng.normal(size=(2, count, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    result = np.zeros((count, dim(lmax), dim(lmax)))
    with jax.enable_x64(True):
        for l, frame in enumerate(edge_frame(jnp.asarray(directions), lmax, lmax)):
            first, second = np.asarray(frame)
            block = degree_slice(l)
            result[:, block, block] = np.swapaxes(second, -1, -2) @ first
    return list(result)


def _largest_value(tensor: Float[np.ndarray, "d1 d2 d3"], rng: np.random.Generator) -> float:
    """A local maximum of ‖Σ_ij tensor_ijk x_i y_j‖ over unit vectors, by turns."""
    y = rng.normal(size=(tensor.shape[1],))
    y /= np.linalg.norm(y)
    for _ in range(20):
        x = np.linalg.svd(np.einsum("ijk,j->ki", tensor, y))[2][0]
        _, values, rows = np.linalg.svd(np.einsum("ijk,i->kj", tensor, x))
        y = rows[0]
    return float(values[0])
