"""Every numerical tolerance of the tests, in one table: eV, Å.

A tolerance is loosened here, for all tests at once and with a reason, or not at all.
"""

from typing import NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """Largest accepted absolute differences of one precision.

    Attributes:
        energy: eV, of a whole structure.
        node_energy: eV, of one atom.
        forces: eV/Å.
        stress: eV/Å³.
        relative: of dimensionless intermediate quantities (harmonics, products), per unit.
        finite_difference: of a derivative against central differences, relative.
    """

    energy: float
    node_energy: float
    forces: float
    stress: float
    relative: float
    finite_difference: float


# Agreement with values recorded from another implementation of the same model.
GOLDEN = Tolerance(
    energy=1e-8,
    node_energy=1e-8,
    forces=1e-8,
    stress=1e-9,
    relative=1e-10,
    finite_difference=1e-6,
)

# Two ways to compute the same thing: invariances, padding, batched against single.
FLOAT64 = Tolerance(
    energy=1e-9,
    node_energy=1e-9,
    forces=1e-9,
    stress=1e-10,
    relative=1e-11,
    finite_difference=1e-6,
)
FLOAT32 = Tolerance(
    energy=5e-4,
    node_energy=5e-5,
    forces=5e-4,
    stress=5e-5,
    relative=2e-5,
    finite_difference=1e-2,
)


def tolerance(dtype: np.typing.DTypeLike) -> Tolerance:
    """The row of the table for a floating-point type."""
    return {np.dtype(np.float32): FLOAT32, np.dtype(np.float64): FLOAT64}[np.dtype(dtype)]
