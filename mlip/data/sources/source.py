"""`Source`: labelled structures on disk, read one at a time by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from mlip.data.structure import Structure
from mlip.errors import MlipError


class BadRecordError(MlipError):
    """A single record that cannot be used; its neighbours can.

    Args:
        name: of the record, `FILE#RECORD`.
        fault: what was found, what was expected and what to do, in one sentence.
    """

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name}: {fault}")
        self.name = name
        self.fault = fault

    def __reduce__(self) -> tuple[type[BadRecordError], tuple[str, str]]:
        return type(self), (self.name, self.fault)  # so that it crosses process borders


class Source(ABC):
    """Random access to the labelled structures of a file or folder.

    Opening reads no more than an index. A source can be pickled: worker processes open the files
    anew. Energies are in eV, lengths in Å, whatever the file holds; what the energies count from
    is `energy_reference`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    @abstractmethod
    def __getitem__(self, index: int) -> Structure:
        """The structure of a record, 0 ≤ index < len.

        Raises:
            BadRecordError: naming file and record, for one that is damaged or not plausible.
            MlipError: for a file that cannot be read at all.
        """

    @abstractmethod
    def identifier(self, index: int) -> str:
        """Name of a record for messages, `FILE#RECORD`, without decoding it."""

    @abstractmethod
    def num_atoms(self, index: int) -> int:
        """Number of atoms of a record, decoding as little as its format allows.

        Raises:
            BadRecordError: as above.
        """

    def trajectory(self, index: int) -> str:
        """What a record must not be split from: its trajectory; by default it stands alone."""
        return self.identifier(index)

    @property
    def energy_reference(self) -> str:
        """What the energies count from: `total`, `referenced` or `atomisation`."""
        return "total"

    def __iter__(self) -> Iterator[Structure]:
        return (self[index] for index in range(len(self)))

    def sizes(self) -> np.ndarray:
        """Number of atoms of every record, int32, shape (len,)."""
        return np.fromiter((self.num_atoms(i) for i in range(len(self))), np.int32, len(self))
