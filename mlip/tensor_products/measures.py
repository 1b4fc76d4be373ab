"""What an operator can express: its independent maps, and the couplings that it forms.

Operators differ in how many couplings they form, and in how many of them can be weighted apart.
Both are measured on the operator itself, by double-precision evaluation at random points.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mlip.errors import MlipError
from mlip.graph import bare_graph
from mlip.nn.irreps import Path, dim
from mlip.nn.spherical_harmonics import spherical_harmonics
from mlip.tensor_products.protocol import Convolution, NodeProduct, Paths

UNOPTIMIZED = {"xla_backend_optimization_level": 0}  # for programs that run once
POINTS = 3  # random arguments for each pair of degrees
NEGLIGIBLE = 1e-9  # relative to the largest; rounding is below it, a true value above


def expressivity(product: NodeProduct, paths: Sequence[Paths] | None = None) -> int:
    """Number of independent bilinear maps that linear maps around a product reach.

    With equivariant linear maps before and after, the product T becomes

        t_{l1 l2 l3} = a_{l1} b_{l2} Σ_p c_{l3 p} T^p_{l1 l2 l3}

    for one channel, with the copies p of degree l3. The expressivity is the dimension of the set
    of all such t: the rank of its Jacobian by (a, b, c) at a generic point. It is the number of
    couplings where each has a copy of its own, and lmax1 + lmax2 + (degrees of the result) + 1 at
    most where the couplings of a degree are added up.

    Args:
        product: the operator.
        paths: the sets of couplings to take together, all of the operator's by default. a and b
            are common to them, c is not.

    Raises:
        MlipError: for couplings that the product does not form.

    Source: Xie et al., ICML 2025, section 3.
    """
    blocks = [_responses(product, one) for one in paths or product.paths]
    return _dimension([block for per_degree in blocks for block in per_degree])


def convolution_expressivity(convolution: Convolution) -> int:
    """Number of independent maps from a sender to a message that the weights of an edge reach.

    For one edge and one channel, with equivariant linear maps before and after, the message is

        m_{l3} = Σ_{l1} a_{l1} Σ_s w_s Σ_p c_{l3 p} T^{s p}_{l1 l3}(r̂) x_{l1}

    with weights w and copies p. The measure is the dimension of the set of all such maps at a
    fixed length of the edge. Where each coupling has its own weight it is the number of couplings.

    Args:
        convolution: the operator.
    """
    return _dimension(_convolution_responses(convolution))


def interactability(
    product: NodeProduct, paths: Sequence[Paths] | None = None, negligible: float = NEGLIGIBLE
) -> set[Path]:
    """The couplings (l1, l2, l3) that a product forms, with whatever coefficient.

    Args:
        product: the operator.
        paths: the sets of couplings to look at, all of the operator's by default.
        negligible: what is smaller, relative to the largest, counts as zero; for an approximate
            product above its error.

    Raises:
        MlipError: for couplings that the product does not form.

    Source: Xie et al., ICML 2025, section 3.
    """
    found = set()
    for one in paths or product.paths:
        sizes = [
            np.linalg.norm(values, axis=(2, 3)).max(axis=-1, initial=0.0)
            for values in _responses(product, one)
        ]
        threshold = negligible * max(size.max() for size in sizes)
        for l3, size in enumerate(sizes):
            found |= {Path(int(l1), int(l2), l3) for l1, l2 in np.argwhere(size > threshold)}
    return found


@lru_cache(maxsize=4)  # both measures of one product evaluate it once
def _responses(product: NodeProduct, paths: Paths) -> list[np.ndarray]:
    """T(x_l1, y_l2) for each pair of degrees at random arguments.

    Returns:
        for each degree l3 an array (lmax1 + 1, lmax2 + 1, POINTS, 2 l3 + 1, copies).
    """
    n1, n2 = product.lmax1 + 1, product.lmax2 + 1
    rng = np.random.default_rng(0)
    x = _of_single_degrees(rng, product.lmax1, (n1, n2, POINTS), 0)
    y = _of_single_degrees(rng, product.lmax2, (n1, n2, POINTS), 1)
    with jax.enable_x64(True):
        flat = (jnp.asarray(one.reshape(-1, one.shape[-1], 1)) for one in (x, y))
        program = jax.jit(lambda x, y: product(x, y, paths), compiler_options=UNOPTIMIZED)
        parts = program(*flat)
    return [np.asarray(part).reshape(n1, n2, POINTS, *part.shape[1:]) for part in parts]


def _convolution_responses(convolution: Convolution) -> list[np.ndarray]:
    """Messages of one edge each, from single degrees and with single weights.

    Returns:
        for each degree l3 an array (lmax + 1, weights, POINTS, 2 l3 + 1, copies).
    """
    shape = (convolution.input_lmax + 1, convolution.num_weights, POINTS)
    rng = np.random.default_rng(0)
    features = _of_single_degrees(rng, convolution.input_lmax, shape, 0)
    weights = np.broadcast_to(np.eye(shape[1])[:, None], (*shape, shape[1]))
    directions = rng.normal(size=(*shape, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    nodes = np.arange(np.prod(shape))
    graph = bare_graph(nodes, nodes[:, None], len(nodes))
    with jax.enable_x64(True):
        y = spherical_harmonics(
            jnp.asarray(directions.reshape(-1, 1, 3)), convolution.harmonics_lmax
        )
        parts = jax.jit(convolution.__call__, compiler_options=UNOPTIMIZED)(
            jnp.asarray(features.reshape(len(nodes), -1, 1)),
            y,
            jnp.asarray(weights.reshape(len(nodes), 1, -1)),
            graph,
        )
    return [np.asarray(part).reshape(*shape, *part.shape[1:]) for part in parts]


def _of_single_degrees(
    rng: np.random.Generator, lmax: int, shape: tuple[int, ...], axis: int
) -> Float[np.ndarray, "*shape d"]:
    """Random components of the degree that the index along `axis` says, zero for the others."""
    values = rng.normal(size=(*shape, dim(lmax)))
    degree = np.expand_dims(np.arange(lmax + 1), tuple(set(range(len(shape) + 1)) - {axis}))
    return np.where(degree == _degree_of_component(lmax), values, 0.0)


def _degree_of_component(lmax: int) -> np.ndarray:
    return np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)


def _dimension(blocks: Sequence[Float[np.ndarray, "n1 n2 points m copies"]]) -> int:
    """Rank of the Jacobian of a_i b_j Σ_p c_p block_ij..p by a, b and all the c."""
    rng = np.random.default_rng(1)
    n1, n2 = blocks[0].shape[:2]
    a, b = np.split(rng.uniform(0.5, 1.5, size=(n1 + n2,)), [n1])
    first = n1 + n2
    width = first + sum(block.shape[-1] for block in blocks)
    rows = []
    for block in blocks:
        copies = block.shape[-1]
        summed = block @ rng.uniform(0.5, 1.5, size=copies)
        jacobian = np.zeros((*summed.shape, width))
        for i in range(n1):
            jacobian[i, ..., i] = b[:, None, None] * summed[i]
        for j in range(n2):
            jacobian[:, j, ..., n1 + j] = a[:, None, None] * summed[:, j]
        jacobian[..., first : first + copies] = np.einsum("i,j,ij...->ij...", a, b, block)
        rows.append(jacobian.reshape(-1, width))
        first += copies
    return _rank(np.concatenate(rows))


def _rank(matrix: Float[np.ndarray, "rows columns"]) -> int:
    """Rank, after making sure that the singular values leave no doubt."""
    norms = np.linalg.norm(matrix, axis=0)
    columns = matrix[:, norms > NEGLIGIBLE * norms.max()]
    values = np.linalg.svd(columns / np.linalg.norm(columns, axis=0), compute_uv=False)
    large = values > NEGLIGIBLE * values[0]
    if not large.all() and values[large].min() < 1e3 * values[~large].max():
        raise MlipError(
            f"The rank of the Jacobian is uncertain: its singular values fall from "
            f"{values[large].min():.1e} to {values[~large].max():.1e} without a gap."
        )
    return int(large.sum())
