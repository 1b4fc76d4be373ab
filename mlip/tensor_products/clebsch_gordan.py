"""The full Clebsch–Gordan product: every coupling by itself, as dense or as sparse blocks."""

from __future__ import annotations

from functools import cache, cached_property
from math import sqrt
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlip.nn.irreps import Path, clebsch_gordan, coupling_paths, degree_slice
from mlip.settings import Settings
from mlip.tensor_products.protocol import NodeProduct, Paths, check_paths
from mlip.tensor_products.sparse import Coupling, CouplingMap


class ClebschGordanDenseSettings(Settings):
    """Options of the dense Clebsch–Gordan product: none."""

    name: Literal["clebsch_gordan_dense"] = "clebsch_gordan_dense"


class ClebschGordanSparseSettings(Settings):
    """Options of the sparse Clebsch–Gordan product: none."""

    name: Literal["clebsch_gordan_sparse"] = "clebsch_gordan_sparse"


class ClebschGordan(NodeProduct):
    """Every coupling by itself, each kept as a copy of its own.

        z^{(l1 l2) l3}_m3 = √(2 l3+1) Σ_{m1 m2} C^{l3 m3}_{l1 m1 l2 m2} x_{l1 m1} y_{l2 m2}

    Independent components of unit variance give components of unit variance. The copies of a
    degree are ordered by l1, then l2.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.
    """

    paths: tuple[Paths, ...] = ("even", "odd")

    @cached_property
    def _couplings(self) -> dict[Paths, tuple[Path, ...]]:
        degrees = (self.lmax1, self.lmax2, self.output_lmax)
        return {"even": coupling_paths(*degrees, "even"), "odd": coupling_paths(*degrees, "odd")}

    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """Couplings that end in each degree."""
        check_paths(self, paths)
        ends = [path.l3 for path in self._couplings[paths]]
        return tuple(ends.count(degree) for degree in range(self.output_lmax + 1))


class ClebschGordanDense(ClebschGordan):
    """Every coupling as one dense block, zeros included; see `ClebschGordan`."""

    def multiplies(self, paths: Paths = "even") -> int:
        """Two for every entry of every block."""
        check_paths(self, paths)
        return 2 * sum(
            (2 * p.l1 + 1) * (2 * p.l2 + 1) * (2 * p.l3 + 1) for p in self._couplings[paths]
        )

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        outputs: list[list] = [[] for _ in range(self.output_lmax + 1)]
        for path in self._couplings[paths]:
            block = clebsch_gordan(*path) * np.sqrt(2 * path.l3 + 1)
            outputs[path.l3].append(
                jnp.einsum(
                    "...ic,...jc,ijk->...kc",
                    x[..., degree_slice(path.l1), :],
                    y[..., degree_slice(path.l2), :],
                    jnp.asarray(block, x.dtype),
                )
            )
        empty = jnp.zeros((*x.shape[:-2], 1, 0), x.dtype)
        return [
            jnp.concatenate(parts, axis=-1)
            if parts
            else jnp.broadcast_to(empty, (*x.shape[:-2], 2 * degree + 1, 0))
            for degree, parts in enumerate(outputs)
        ]


class ClebschGordanSparse(ClebschGordan):
    """The non-zero terms of every coupling, in one loop; see `ClebschGordan` and `BilinearMap`.

    A coupling of (2 l1+1)(2 l2+1)(2 l3+1) numbers has about (2 l+1)² that are not zero.
    """

    def multiplies(self, paths: Paths = "even") -> int:
        """Two for each non-zero entry."""
        check_paths(self, paths)
        return self._map(paths).multiplies

    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel; see `NodeProduct`."""
        return self._map(paths)(x, y)

    def _map(self, paths: Paths) -> CouplingMap:
        return _separate_couplings(
            self._couplings[paths], self.lmax1, self.lmax2, self.copies(paths)
        )


@cache
def _separate_couplings(
    couplings: tuple[Path, ...], lmax1: int, lmax2: int, copies: tuple[int, ...]
) -> CouplingMap:
    """Each path as the next copy of its degree."""
    seen = [0] * len(copies)
    numbered = []
    for path in couplings:
        numbered.append(Coupling(path, seen[path.l3], sqrt(2 * path.l3 + 1)))
        seen[path.l3] += 1
    return CouplingMap(numbered, lmax1, lmax2, copies)
