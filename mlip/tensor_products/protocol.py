"""What every tensor product offers: the two roles, and what an operator says about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import jax
from jaxtyping import Array, Float

from mlip.errors import MlipError
from mlip.graph import Graph

P = ParamSpec("P")
R = TypeVar("R")

Paths = Literal["even", "odd", "mixed"]
"""A set of couplings (l1, l2, l3) that an operator forms together.

`even`: l1 + l2 + l3 is even; features of natural parity give features of natural parity.
`odd`: l1 + l2 + l3 is odd, as in a cross product; natural parity gives pseudo-tensors.
`mixed`: both added up, so that only rotations are respected and mirror images are not.
"""


NEIGHBORS = 16
"""Edges among which counts of multiplications divide what a convolution does once for an atom."""


class NodeProduct(ABC):
    """A bilinear map of two features of the same atom, without weights.

    Weights belong to the linear maps around it. Where several couplings end in one degree an
    operator may keep them apart, as *copies*, or add them with fixed coefficients.

    Args:
        lmax1: highest degree of the first factor.
        lmax2: highest degree of the second factor.
        output_lmax: highest degree of the result.

    Raises:
        MlipError: for degrees that the operator cannot take or give.
    """

    paths: tuple[Paths, ...] = ("even",)
    """The sets of couplings that can be asked for; a call that names none asks for `even` ones."""
    exact: bool = True
    """Whether the map is equivariant to rounding, or only approximately."""

    def __init__(self, lmax1: int, lmax2: int, output_lmax: int) -> None:
        check_degrees(type(self).__name__, lmax1, lmax2, output_lmax)
        check_reach(type(self).__name__, lmax1, lmax2, output_lmax)
        self.lmax1, self.lmax2, self.output_lmax = lmax1, lmax2, output_lmax

    def __init_subclass__(cls) -> None:
        """Let every operator refuse arrays that do not fit, which slices would pass over."""
        if "__call__" in cls.__dict__:
            cls.__call__ = _after(_check_factors, cls.__call__)  # type: ignore[method-assign]

    @abstractmethod
    def copies(self, paths: Paths = "even") -> tuple[int, ...]:
        """Copies of each degree 0..output_lmax in the result; zero for a degree never reached."""

    @abstractmethod
    def multiplies(self, paths: Paths = "even") -> int:
        """Multiplications for one channel of one atom, counted from the algorithm."""

    @abstractmethod
    def __call__(
        self,
        x: Float[Array, "*batch d1 channels"],
        y: Float[Array, "*batch d2 channels"],
        paths: Paths = "even",
    ) -> list[Float[Array, "*batch m copies_channels"]]:
        """Multiply channel by channel.

        Args:
            x: degrees 0..lmax1.
            y: degrees 0..lmax2, with the channels of `x` or a single one.
            paths: which couplings.

        Returns:
            for each degree an array (..., 2 l3 + 1, copies · channels), the copies outermost.

        Raises:
            MlipError: for arrays of other shapes, or couplings that are not formed.
        """


class Convolution(ABC):
    """Sender features times edge harmonics, weighted per edge, summed over the neighbours.

    Only couplings that keep natural parity are formed, unless the operator mixes them.

    Args:
        input_lmax: highest degree of the sender features.
        harmonics_lmax: highest degree of the edge harmonics.
        output_lmax: highest degree of the messages.

    Raises:
        MlipError: for degrees that the operator cannot take or give.
    """

    exact: bool = True
    """Whether the map is equivariant to rounding, or only approximately."""
    mirrors: bool = True
    """Whether inversion is respected, or only rotations."""
    any_output: bool = False
    """Whether messages can have degrees above input_lmax + harmonics_lmax."""

    def __init__(self, input_lmax: int, harmonics_lmax: int, output_lmax: int) -> None:
        check_degrees(type(self).__name__, input_lmax, harmonics_lmax, output_lmax)
        if not self.any_output:
            check_reach(type(self).__name__, input_lmax, harmonics_lmax, output_lmax)
        self.input_lmax = input_lmax
        self.harmonics_lmax = harmonics_lmax
        self.output_lmax = output_lmax

    def __init_subclass__(cls) -> None:
        """Let every operator refuse arrays that do not fit, which slices would pass over."""
        for name in {"__call__", "on_edges"} & cls.__dict__.keys():
            setattr(cls, name, _after(_check_edges, cls.__dict__[name]))

    @property
    @abstractmethod
    def num_weights(self) -> int:
        """Weights per edge and channel."""

    @property
    @abstractmethod
    def output_multiplicity(self) -> tuple[int, ...]:
        """Copies of each degree 0..output_lmax in the messages."""

    @property
    @abstractmethod
    def multiplies(self) -> int:
        """Multiplications for one channel of one edge, counted from the algorithm.

        What is done once for an atom, or for the edges of a block together, is divided by
        `NEIGHBORS`. Left out is what all channels of an edge share: harmonics, their values at
        points, rotations.
        """

    @abstractmethod
    def __call__(
        self,
        features: Float[Array, "N d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
        graph: Graph,
    ) -> list[Float[Array, "N m copies_channels"]]:
        """Messages summed over the neighbours of each atom.

        Args:
            features: of the senders, degrees 0..input_lmax.
            harmonics: as from `spherical_harmonics`, degrees 0..harmonics_lmax.
            weights: per edge, shape (B, W, num_weights · channels), the weights outermost; zero
                on padded edges.
            graph: gives senders and receivers.

        Returns:
            for each degree l3 an array (N, 2 l3 + 1, copies · channels), the copies outermost.

        Raises:
            MlipError: for arrays of other shapes.
        """

    @abstractmethod
    def on_edges(
        self,
        features: Float[Array, "B W d channels"],
        harmonics: Sequence[Float[Array, "B W"]],
        weights: Float[Array, "B W weights_channels"],
    ) -> list[Float[Array, "B m copies_channels"]]:
        """The same for features that lie on the edges, summed over the edges of each row.

        Attention needs it: there what is multiplied depends on both atoms of an edge. With a
        single edge in each row (`edgewise.each_edge`) it gives the messages themselves.

        Args:
            features: of the edges, degrees 0..input_lmax.
            harmonics: as above.
            weights: as above.

        Returns:
            for each degree l3 an array (B, 2 l3 + 1, copies · channels), the copies outermost.

        Raises:
            MlipError: for arrays of other shapes.
        """


def check_degrees(operator: str, *degrees: int) -> None:
    """Raise for a negative degree."""
    if min(degrees) < 0:
        raise MlipError(
            f"{operator}: a degree of {min(degrees)} was asked for; expected 0 or more."
        )


def check_reach(operator: str, lmax1: int, lmax2: int, output_lmax: int) -> None:
    """Raise for a degree that no coupling of the factors has."""
    if output_lmax > lmax1 + lmax2:
        raise MlipError(
            f"{operator}: a result of degree {output_lmax} was asked for, but factors of degrees "
            f"up to {lmax1} and {lmax2} couple to degree {lmax1 + lmax2} at most."
        )


def check_paths(product: NodeProduct, paths: Paths) -> None:
    """Raise for couplings that a product does not form."""
    if paths not in product.paths:
        mixed = paths == "mixed"
        other = "path_shared with paths=all" if mixed else "clebsch_gordan_dense"
        raise MlipError(
            f"{type(product).__name__} forms {' and '.join(product.paths)} couplings, not {paths} "
            f"ones; ask for {product.paths[0]} ones, or take {other}, which forms {paths} ones."
        )


def _after(check: Callable[..., None], call: Callable[P, R]) -> Callable[P, R]:
    @wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check(*args, **kwargs)
        return call(*args, **kwargs)

    return checked


def _check_factors(product: NodeProduct, x: jax.Array, y: jax.Array, paths: Paths = "even") -> None:
    check_paths(product, paths)
    name = type(product).__name__
    _check_components(name, "the first factor", x, product.lmax1)
    _check_components(name, "the second factor", y, product.lmax2)
    if x.shape[:-2] != y.shape[:-2]:
        raise MlipError(
            f"{name}: the first factor is a batch of shape {x.shape[:-2]}, the second one of shape "
            f"{y.shape[:-2]}; expected the same."
        )
    if y.shape[-1] not in (1, x.shape[-1]):
        raise MlipError(
            f"{name}: the second factor has {y.shape[-1]} channels; expected {x.shape[-1]}, as "
            "the first, or 1."
        )


def _check_edges(
    convolution: Convolution,
    features: jax.Array,
    harmonics: Sequence[jax.Array],
    weights: jax.Array,
    graph: Graph | None = None,
) -> None:
    name = type(convolution).__name__
    _check_components(name, "the sender", features, convolution.input_lmax)
    _check_number(name, "the edge", len(harmonics), convolution.harmonics_lmax)
    expected = convolution.num_weights * features.shape[-1]
    if weights.ndim != 3 or weights.shape[-1] != expected:
        raise MlipError(
            f"{name}: an edge has weights of shape {weights.shape[2:]}; expected ({expected},), "
            f"which is {convolution.num_weights} for each of {features.shape[-1]} channels."
        )
    edges = weights.shape[:2]
    found = {f"the harmonic number {m}": y.shape for m, y in enumerate(harmonics)}
    if graph is None:
        found["the sender"] = features.shape[:-2]
    else:
        found["the graph"] = graph.senders.shape
        if features.shape[:-2] != (graph.num_nodes,):
            raise MlipError(
                f"{name}: the senders are a batch of shape {features.shape[:-2]}; expected "
                f"({graph.num_nodes},), one entry for each atom of the graph."
            )
    for what, shape in found.items():
        if shape != edges:
            raise MlipError(
                f"{name}: the weights are those of edges of shape {edges}, {what} has shape "
                f"{shape}; expected the same."
            )


def _check_components(operator: str, what: str, array: jax.Array, lmax: int) -> None:
    if array.ndim < 2:
        raise MlipError(
            f"{operator}: {what} is an array of shape {array.shape}; expected (..., "
            f"{(lmax + 1) ** 2}, channels) for degrees 0 to {lmax}."
        )
    _check_number(operator, what, array.shape[-2], lmax)


def _check_number(operator: str, what: str, found: int, lmax: int) -> None:
    if found != (lmax + 1) ** 2:
        raise MlipError(
            f"{operator}: {what} has {found} components; expected {(lmax + 1) ** 2} for degrees "
            f"0 to {lmax}."
        )
