"""`LabelledFile`: a file whose labels may have any key."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from mlip.data.sources.labels import OPTION, LabelKeys, require_keys_in_sample
from mlip.data.sources.source import EnergyReference, Source


class LabelledFile(Source):
    """A file whose labels may have any key; what all such formats have in common.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from; None: unstated, unless the format says
            more.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the file cannot be read, or none of some records has a label key.
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
        self._stated = energy_reference
        self._prepare()
        self._require_label_keys(option)

    def _prepare(self) -> None:
        """Find out, and check, what must be known before the first record is read."""

    @abstractmethod
    def _keys_of(self, index: int) -> set[str]:
        """The keys of a record that could be those of labels."""

    def _require_label_keys(self, option: str) -> None:
        require_keys_in_sample(self.path, self._keys, len(self), self._keys_of, option)

    @property
    def energy_reference(self) -> EnergyReference:
        return self._stated or "unstated"

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"
