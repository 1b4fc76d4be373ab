"""`Source`: labelled structures on disk, read one at a time by index."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.data.tally import Tally

EnergyReference = Literal["total", "referenced", "atomisation", "unstated"]
"""What the energies of a source count from.

`total`: nothing was subtracted. `referenced`: the energy of some reference system was subtracted,
as in adsorption energies. `atomisation`: the energies of the isolated atoms were subtracted, so
that E0 is zero. `unstated`: the format serves for several of these and the file does not say.
"""

REFERENCE = "energy_reference"  # names it in the files that are written
QUOTED = 3  # faults in one message

# What decoders raise on content that is not what it should be.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError,
    RecursionError, TypeError, UnpicklingError, ValueError, zlib.error,
)  # fmt: skip


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


def left_out(error: BadRecordError, *, skip_bad: bool, option: str = "on_bad_record") -> str:
    """Why a record is left out.

    Args:
        error: what is wrong with it.
        skip_bad: whether it may be left out.
        option: the user's option for that, for the message.

    Raises:
        BadRecordError: if it may not, with how to allow it.
    """
    if skip_bad:
        return str(error)
    hint = f" To leave such records out and count them, set {option}=skip."
    raise BadRecordError(error.name, error.fault + hint) from error


def quoted(faults: Sequence[str]) -> str:
    """The first of some faults, and how many more there are."""
    more = f"; and {len(faults) - QUOTED} more" if len(faults) > QUOTED else ""
    return "; ".join(fault.rstrip(".") for fault in faults[:QUOTED]) + more


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong while the content of a record is decoded is a `BadRecordError`.

    Args:
        name: of the record. The file itself is read outside of this block, since its faults are
            no single record's.
    """
    try:
        yield
    except BadRecordError:
        raise
    except MlipError as error:
        raise BadRecordError(name, str(error).removeprefix(f"{name}: ")) from error
    except DAMAGE as error:
        raise BadRecordError(
            name,
            f"the record is damaged or of another kind ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); remove it, or copy the file again.",
        ) from error


def require_file(path: Path) -> None:
    """Raise for a path that is no file."""
    if not path.is_file():
        raise MlipError(f"{path} does not exist or is no file; check its name.")


def reference_in(values: Mapping[str, Any]) -> EnergyReference | None:
    """What energies count from, if the information about a file or frame says it."""
    found: EnergyReference | None = values.get(REFERENCE)  # elsewhere, this may name a number
    return found if isinstance(found, str) and found in get_args(EnergyReference) else None


def agreed_reference(
    path: Path, found: EnergyReference | None, stated: EnergyReference | None
) -> EnergyReference:
    """What energies count from, by a file and by the user, who speaks where the file does not.

    Args:
        path: the file.
        found: what it says, if it does.
        stated: what the user says, who may be silent.

    Raises:
        MlipError: if they contradict each other.
    """
    if found in (None, "unstated"):
        return stated or "unstated"
    if stated not in (None, found):
        raise MlipError(
            f"{path} holds {found} energies, which cannot be converted to {stated} ones; take a "
            "file that holds these, or leave energy_reference out."
        )
    return found


def trajectory_of(source: Source, index: int) -> str | None:
    """The trajectory of a record, None if it stands alone."""
    name = source.trajectory(index)
    return None if name == source.identifier(index) else name


class Source(ABC):
    """Random access to the labelled structures of a file or folder.

    Opening reads no more than an index. A source can be pickled: worker processes open the files
    anew. Reading is safe in several threads and after a fork. Energies are in eV, lengths in Å,
    whatever the file holds; what the energies count from is `energy_reference`.
    """

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it reads."""
        return (self.path,)

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

    def atomic_numbers(self, index: int) -> np.ndarray:
        """Atomic numbers of a record, int32, shape (n,), decoding as little as its format allows.

        By default the whole record is decoded.

        Raises:
            BadRecordError: as above.
        """
        return self[index].numbers

    def trajectory(self, index: int) -> str:
        """What a record must not be split from: its trajectory; by default it stands alone."""
        return self.identifier(index)

    @property
    def energy_reference(self) -> EnergyReference:
        """What the energies count from."""
        return "unstated"

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that occur in the file; None where only reading all records would tell."""
        sums = self.tally()
        return None if sums is None else frozenset(sums.elements)

    def tally(self) -> Tally | None:
        """Sums over all records, where the file or its index holds them."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out when the records were listed, in words."""
        return ()

    def stream(self) -> Iterator[Structure | BadRecordError]:
        """All records in order, a bad one as its error: faster than by index in some formats.

        Raises:
            MlipError: for a file that cannot be read at all.
        """
        return self.read_in_order(range(len(self)))

    def read_in_order(self, indices: Iterable[int]) -> Iterator[Structure | BadRecordError]:
        """Some records by ascending index, a bad one as its error.

        Raises:
            MlipError: for a file that cannot be read at all.
        """
        with self._reading_in_order():
            for index in indices:
                try:
                    yield self[index]
                except BadRecordError as error:
                    yield error

    def _reading_in_order(self) -> AbstractContextManager[None]:
        """Within it, records are asked for by ascending index; the system may read ahead."""
        return nullcontext()

    def __iter__(self) -> Iterator[Structure]:
        """All structures in order; the first bad record raises its error."""
        for record in self.stream():
            if isinstance(record, BadRecordError):
                raise record
            yield record

    def sizes(self) -> np.ndarray:
        """Number of atoms of every record, int32, shape (len,); 0 for one that is damaged."""
        return np.fromiter(map(self._num_atoms_or_zero, range(len(self))), np.int32, len(self))

    def _num_atoms_or_zero(self, index: int) -> int:
        try:
            return self.num_atoms(index)
        except BadRecordError:
            return 0

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and indices: all that stands in cached properties."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), cached_property)
        }
