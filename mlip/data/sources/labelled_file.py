"""`LabelledFile`: a file whose labels may have any key."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from mlip.data.sources.labels import OPTION, LabelKeys, require_keys_in_sample
from mlip.data.sources.source import EnergyReference, Source, agreed_reference


class LabelledFile(Source):
    """A file whose labels may have any key; what all such formats have in common.

    Args:
        path: the file.
        keys: names of the labels.
        energy_reference: what the energies count from, where the file does not say.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the file cannot be read, none of some records has a label key, or its energies
            count from something else.
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
        self._prepare()
        self._said = self._reference_in_file()
        self._reference = self._agree(energy_reference)
        self._require_label_keys(option)

    def _prepare(self) -> None:
        """Find out, and check, what must be known before the first record is read."""

    def _agree(self, stated: EnergyReference | None) -> EnergyReference:
        """What the energies count from, by the file and by the user."""
        return agreed_reference(self.path, self._said, stated)

    def _reference_in_file(self) -> EnergyReference | None:
        """What the file says that its energies count from; None where it does not."""
        return None

    @abstractmethod
    def _keys_of(self, index: int) -> set[str]:
        """The keys of a record that could be those of labels."""

    def _require_label_keys(self, option: str) -> None:
        require_keys_in_sample(self.path, self._keys, len(self), self._keys_of, option)

    @property
    def energy_reference(self) -> EnergyReference:
        return self._reference

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"
