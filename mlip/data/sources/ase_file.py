"""Any other file that ASE reads: trajectories, outputs of other programs."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlip.data.sources.labels import (
    OPTION,
    LabelKeys,
    available,
    label_values,
    require_keys,
    structure_from_atoms,
)
from mlip.data.sources.source import EnergyReference, Source, decoding
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms


class AseFileSource(Source):
    """The frames of a file in any format that ASE recognises, read whole.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from; None: total.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if ASE cannot read the file, or no frame has a label key.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: LabelKeys | None = None,
        energy_reference: EnergyReference | None = None,
        option: str = OPTION,
    ) -> None:
        self.path = path
        self._keys = keys or LabelKeys()
        self._stated = energy_reference or "total"
        present: Counter[str] = Counter()
        for atoms in self._frames:
            present.update(available(label_values(atoms)))
        require_keys(path, self._keys, present, len(self), option)

    @property
    def energy_reference(self) -> EnergyReference:
        return self._stated

    @cached_property
    def _frames(self) -> list[Atoms]:
        import ase.io

        if not self.path.is_file():
            raise MlipError(f"{self.path} does not exist or is no file; check its name.")
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

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"

    def num_atoms(self, index: int) -> int:
        return len(self._frames[index])

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        with decoding(name):
            return structure_from_atoms(self._frames[index], self._keys, name)
