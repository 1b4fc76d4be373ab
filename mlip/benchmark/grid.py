"""What `mlip benchmark tensor-products` measures: its options, and the comparisons they span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from mlip.runtime import Precision
from mlip.settings import Settings
from mlip.tensor_products.registry import OPERATORS, TensorProductSettings

Task = Literal[
    "one_to_one", "one_to_all", "all_to_all", "all_to_lmax", "convolution", "mace_convolution"
]
"""What is multiplied, for a degree L; the natural parity of degree l is (−1)^l.

`one_to_one`: degree L times degree L to degree L, or L + 1 where L is odd, because only an even
sum of the three degrees gives natural parity; `one_to_all`: degree L times degree L to degrees
0..2L; `all_to_all`: degrees 0..L times degrees 0..L to degrees 0..2L; `all_to_lmax`: the same to
degrees 0..L; `convolution`: features to degree L times harmonics to degree L, to degree L, weighted
and summed over the edges of a batch of molecules; `mace_convolution`: the same for features to
degree 1, harmonics and messages to degree 3, as in the second layer of MACE.
"""
Couplings = Literal["even", "all", "own"]
"""`even`: those that keep natural parity; `all`: odd ones as well, kept apart or added up; `own`:
what the operator forms in a convolution."""
Mode = Literal["forward", "gradient"]
"""`gradient`: the value and the product of a given vector with its derivatives by every input."""

BASELINE = "clebsch_gordan_dense"
CONVOLUTIONS: tuple[Task, ...] = ("convolution", "mace_convolution")
ONE_DEGREE: tuple[Task, ...] = ("one_to_one", "one_to_all")
CONVOLUTION_CHANNELS = 64
MACE_DEGREES = (1, 3, 3)


Size = tuple[PositiveInt, PositiveInt]
"""Atoms and channels."""


def _known_operator(name: str) -> str:
    if name not in OPERATORS:
        raise ValueError(f"there is no operator {name}; expected some of {', '.join(OPERATORS)}")
    return name


class BenchmarkGrid(Settings):
    """Options of the benchmark.

    Every task, degree and mode is measured with the first of the couplings, sizes and precisions.
    The further ones take the place of the first, one at a time, at the degrees of `others_at`.
    """

    name: str = Field(description="name of the preset")
    operators: tuple[Annotated[str, AfterValidator(_known_operator)], ...] | None = Field(
        None, min_length=1, description="operators beside clebsch_gordan_dense; null: all"
    )
    variants: tuple[TensorProductSettings, ...] = Field(
        (), description="further options of these operators, such as {name: cp, rank: paper}"
    )
    tasks: tuple[Task, ...] = Field(min_length=1, description="what is multiplied")
    couplings: tuple[Literal["even", "all"], ...] = Field(
        ("even",), min_length=1, description="those of natural parity, or all"
    )
    degrees: tuple[PositiveInt, ...] = Field(min_length=1, description="highest degrees L")
    sizes: tuple[Size, ...] = Field(
        min_length=1, description="atoms and channels in a product, [atoms, channels] each"
    )
    precisions: tuple[Precision, ...] = Field(
        ("float32",), min_length=1, description="floating-point types"
    )
    modes: tuple[Mode, ...] = Field(
        ("forward", "gradient"), min_length=1, description="value alone, value and derivatives"
    )
    others_at: tuple[PositiveInt, ...] = Field(
        (), description="degrees for the couplings, sizes and precisions after the first"
    )
    runs: int = Field(30, ge=6, description="timed calls of each program")
    seconds: float = Field(
        2.0, gt=0, description="time for them, s; slower programs are called less often"
    )
    memory_gb: float = Field(4.0, gt=0, description="programs that need more are skipped, GB")
    max_multiplies: float = Field(
        1e10, gt=0, description="products of more multiplications, counted by hand, are skipped"
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="begin nothing after that; the same command goes on; null: no limit",
    )

    @model_validator(mode="after")
    def _further_values_are_measured_somewhere(self) -> Self:
        for key in ("couplings", "sizes", "precisions"):
            if len(getattr(self, key)) > 1 and not {*self.others_at} & {*self.degrees}:
                raise ValueError(
                    f"{key} has further values, which are measured at the degrees of others_at, "
                    f"and none of {list(self.degrees)} is in others_at, {list(self.others_at)}: "
                    "name one there, or give one value"
                )
        return self

    @model_validator(mode="after")
    def _variants_are_of_operators_to_compare(self) -> Self:
        for name in (variant.name for variant in self.variants):
            if name not in OPERATORS:
                raise ValueError(
                    f"variants has {name}, which is no operator of its own; expected options of "
                    f"one of {', '.join(OPERATORS)}"
                )
            if self.operators is not None and name not in (*self.operators, BASELINE):
                raise ValueError(
                    f"variants has {name}, which is not among operators, {list(self.operators)}: "
                    "add it there, or set variants to []"
                )
        return self

    @model_validator(mode="after")
    def _operators_take_part_in_a_task(self) -> Self:
        roles = {_role(task) for task in self.tasks}
        for name in (*(self.operators or ()), *(variant.name for variant in self.variants)):
            if not any(getattr(OPERATORS[name], role) for role in roles):
                raise ValueError(
                    f"{name} has no {' and no '.join(sorted(roles))} for the tasks "
                    f"{list(self.tasks)}: leave it out, or add a task for it"
                )
        return self

    def candidates(self, cell: Cell) -> dict[str, Settings]:
        """The operators to compare by label, each with its options; the baseline comes first.

        `channelwise` has the product of `clebsch_gordan_sparse`. It is measured under that name
        where both are to be compared, whatever their order.
        """
        names = [BASELINE, *(name for name in self.operators or OPERATORS if name != BASELINE)]
        role = _role(cell.task)
        last = {getattr(one, role): name for name, one in OPERATORS.items() if name in names}
        able = [name for name in names if name in last.values() and getattr(OPERATORS[name], role)]
        found = [OPERATORS[name].settings() for name in able]
        found += [variant for variant in self.variants if variant.name in able]
        return {label(settings): settings for settings in found}

    def cells(self, edges: int) -> Iterator[Cell]:
        """The comparisons, those of one task together.

        Args:
            edges: of the molecules in the convolutions.
        """
        for task in self.tasks:
            if task in CONVOLUTIONS:
                degrees = self.degrees if task == "convolution" else (MACE_DEGREES[-1],)
                couplings: tuple[Couplings, ...] = ("own",)
                sizes: tuple[Size, ...] = ((edges, CONVOLUTION_CHANNELS),)
            else:
                degrees, couplings, sizes = self.degrees, self.couplings, self.sizes
            for degree in degrees:
                others = degree in self.others_at
                chosen = _one_at_a_time(others, couplings, sizes, self.precisions)
                for (kind, size, precision), mode in product(chosen, self.modes):
                    yield Cell(task, kind, degree, size[0], size[1], precision, mode)


class Cell(NamedTuple):
    """One comparison of operators.

    Attributes:
        task: what is multiplied.
        couplings: which couplings are formed.
        degree: highest degree L.
        batch: atoms in a product, edges in a convolution.
        channels: channels.
        precision: floating-point type.
        mode: value alone, or value and derivatives.
    """

    task: Task
    couplings: Couplings
    degree: int
    batch: int
    channels: int
    precision: Precision
    mode: Mode

    def __str__(self) -> str:
        return (
            f"{self.task} ({self.couplings}) L={self.degree}, {self.batch} x {self.channels}, "
            f"{self.precision}, {self.mode}"
        )


def _role(task: Task) -> str:
    return "convolution" if task in CONVOLUTIONS else "product"


def label(settings: Settings) -> str:
    """`cp` with default options, `cp(rank=paper)` with others."""
    values: Mapping[str, object] = settings.model_dump(mode="json", exclude_defaults=True)
    options = ",".join(f"{key}={value}" for key, value in values.items() if key != "name")
    name = settings.name  # type: ignore[attr-defined]
    return f"{name}({options})" if options else name


def _one_at_a_time(others: bool, *choices: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The first of each; then, if asked for, with another one in one place."""
    first = tuple(choice[0] for choice in choices)
    yield first
    if others:
        for place, choice in enumerate(choices):
            for value in choice[1:]:
                yield (*first[:place], value, *first[place + 1 :])
