"""Elements of streamed data, and their E0, that files know without being read."""

from __future__ import annotations

from mlip.data.e0 import E0Table
from mlip.data.frames import Frames
from mlip.data.sources.prepared import PreparedSource
from mlip.data.tally import Tally
from mlip.errors import MlipError


def fitted_over_all(train: Frames) -> E0Table | None:
    """E0 by least squares over all records of prepared files, which know it; None for others."""
    tally = Tally()
    for source in {part.source for part in train.parts}:
        if not isinstance(source, PreparedSource):
            return None
        tally.merge(Tally.from_json(source.progress["tally"]))
    return tally.fit_e0()


def known_elements(train: Frames) -> set[int]:
    """Atomic numbers that the files of a stream name without being read."""
    found = [part.source.elements for part in train.parts]
    return {number for elements in found if elements is not None for number in elements}


def require_e0(elements: set[int], e0: E0Table) -> None:
    """Refuse elements of a stream that are too rare for its sample, and so have no E0.

    Raises:
        MlipError: naming them.
    """
    from ase.data import chemical_symbols

    missing = " ".join(chemical_symbols[number] for number in sorted(elements - set(e0.values)))
    if missing:
        raise MlipError(
            f"the training data contain {missing}, but no frame of the sample that E0 is fitted to "
            "does; give the energies of all elements with dataset.e0 or dataset.isolated_atoms."
        )
