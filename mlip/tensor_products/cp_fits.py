"""Decompositions that are fitted when asked for: a saved model brings its own along.

Fits on two machines may differ by more than rounding, and the weights of a model belong to the one
that it was trained with. Within a process there is one fit of a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from mlip.errors import MlipError
from mlip.tensor_products.cp_decomposition import CPFactors

SAME = 1e-10  # largest difference of two tensors that are the same to rounding

_known: dict[str, CPFactors] = {}
_records: list[dict[str, CPFactors]] = []


def fitted(name: str, fit: Callable[[], CPFactors]) -> CPFactors:
    """The decomposition of a name: that of a model opened before, or else fitted now.

    Args:
        name: says what is decomposed into how many products.
        fit: makes it.
    """
    if name not in _known:
        _known[name] = fit()
    for record in _records:
        record[name] = _known[name]
    return _known[name]


@contextmanager
def recorded() -> Iterator[dict[str, CPFactors]]:
    """Collect by name the fits that are asked for within."""
    record: dict[str, CPFactors] = {}
    _records.append(record)
    try:
        yield record
    finally:
        _records.pop()


def adopt(fits: Mapping[str, CPFactors], source: object) -> None:
    """Take over the fits of a saved model.

    Args:
        fits: by name.
        source: the file, for the message.

    Raises:
        MlipError: where another fit of the same name is in use.
    """
    for name, factors in fits.items():
        known = _known.setdefault(name, factors)
        if not np.allclose(known.tensor(), factors.tensor(), rtol=0, atol=SAME):
            raise MlipError(
                f"{source} was trained with another fit of the cp decomposition {name} than the "
                "one in use in this process; open it before any other model with this "
                "decomposition is built or opened, or in a process of its own."
            )
