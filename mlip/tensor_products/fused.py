"""The fused coupling tensor: all couplings of some degrees added up, in one array."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float

from mlip.nn.irreps import Path, clebsch_gordan, coupling_paths, degree_slice, dim
from mlip.tensor_products.quadrature import harmonics_at, lebedev, surface_gradients_at

FusedPaths = Literal["even", "all"]
"""The couplings that are fused: those of an even sum l1 + l2 + l3, or also those of an odd one."""


@cache
def fused_tensor(
    lmax1: int, lmax2: int, output_lmax: int, paths: FusedPaths
) -> Float[np.ndarray, "d1 d2 d3"]:
    """All coupling blocks in one tensor, each of unit Frobenius norm.

        M[l1 m1, l2 m2, l3 m3] = ± C^{l3 m3}_{l1 m1 l2 m2}

    The sign of a coupling by itself is a convention, but not once they are added up. Here even
    ones have the sign of ∫ Y_l1 Y_l2 Y_l3, as multiplied functions on the sphere, and odd ones that
    of ∫ Y_l1 r̂·(∇Y_l2 × ∇Y_l3), as in a Poisson bracket. Other signs need higher ranks: at L = 3
    and rank 63 the least residual is 0.05 with these and 0.1 or more with most others.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
        paths: the couplings.

    Returns:
        float64, shape ((lmax1+1)², (lmax2+1)², (output_lmax+1)²), read-only.

    Source: Lin et al., tensor decomposition networks (2025), section 4.
    """
    degrees = (lmax1, lmax2, output_lmax)
    result = np.zeros([dim(lmax) for lmax in degrees])
    for path in fused_couplings(*degrees, paths):
        block = tuple(degree_slice(degree) for degree in path)
        result[block] = coupling_sign(path) * clebsch_gordan(*path)
    result.setflags(write=False)
    return result


def fused_couplings(
    lmax1: int, lmax2: int, output_lmax: int, paths: FusedPaths
) -> tuple[Path, ...]:
    """The couplings in the tensor, even ones first; see `fused_tensor`."""
    degrees = (lmax1, lmax2, output_lmax)
    odd = coupling_paths(*degrees, "odd") if paths == "all" else ()
    return (*coupling_paths(*degrees, "even"), *odd)


def coupling_sign(path: Path) -> float:
    """The sign of a coupling in the tensor, relative to that of `clebsch_gordan`."""
    return _bracket_sign(*sorted(path)) if sum(path) % 2 else 1.0


@cache
def _bracket_sign(l1: int, l2: int, l3: int) -> float:
    """Sign of the integral of a harmonic times the Poisson bracket of two, relative to C."""
    points, weights = lebedev(l1 + l2 + l3)
    first = harmonics_at(points, l1)[degree_slice(l1)]
    second = surface_gradients_at(points, l2)[:, degree_slice(l2), None]
    third = surface_gradients_at(points, l3)[:, None, degree_slice(l3)]
    normal = points * weights[:, None]
    integral = np.einsum("ap,pi,ibcp->abc", first, normal, np.cross(second, third, axis=0))
    return float(np.sign(np.sum(integral * clebsch_gordan(l1, l2, l3))))
