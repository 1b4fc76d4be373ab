"""Any other file that ASE reads: trajectories, outputs of other programs."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import (
    available,
    label_values,
    require_keys,
    structure_from_atoms,
)
from mlip.data.sources.source import decoding, require_file
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms


class AseFileSource(LabelledFile):
    """The frames of a file in any format that ASE recognises, read whole.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from; None leaves it unstated.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if ASE cannot read the file, or no frame has a label key.
    """

    def _require_label_keys(self, option: str) -> None:
        present: Counter[str] = Counter()
        for index in range(len(self)):
            present.update(self._keys_of(index))
        require_keys(self.path, self._keys, present, len(self), option)

    def _keys_of(self, index: int) -> set[str]:
        return available(label_values(self._frames[index]))

    @cached_property
    def _frames(self) -> list[Atoms]:
        import ase.io

        require_file(self.path)
        try:
            frames = ase.io.read(self.path, index=":")
        except Exception as error:  # ASE's readers raise whatever the content provokes
            raise MlipError(
                f"ASE cannot read {self.path} ({type(error).__name__}: {error}); convert it to "
                "extended XYZ, or mend it."
            ) from error
        if not frames:
            raise MlipError(f"{self.path} has no frames.")
        return list(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def num_atoms(self, index: int) -> int:
        return len(self._frames[index])

    def atomic_numbers(self, index: int) -> np.ndarray:
        return np.asarray(self._frames[index].numbers, np.int32)

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        with decoding(name):
            return structure_from_atoms(self._frames[index], self._keys, name)
