"""Files that a simulation appends to and can cut back to a known state."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms


class AppendFile:
    """A text file that grows; its size is part of a restart state.

    Args:
        path: of the file.
        size: bytes to keep of what is there; the rest, written after the state that is being
            continued, is cut off. Zero starts anew.

    Raises:
        MlipError: if less than `size` bytes are there.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        present = path.stat().st_size if path.exists() else 0
        if present < size:
            raise MlipError(
                f"{path} holds {present} bytes, but the run to be continued had written {size}: "
                "it was changed since; start again in a new folder."
            )
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, text: str) -> None:
        """Append and hand to the operating system, so that a killed process loses nothing."""
        self._file.write(text.encode())
        self._file.flush()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def frame_text(atoms: Atoms, **info: Any) -> str:
    """One extended-XYZ frame with energy, forces, momenta and (when defined) stress.

    Args:
        atoms: with a calculator that holds results for them.
        info: further values for the comment line.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.extxyz import write_extxyz

    frame = atoms.copy()
    frame.info.update(info)
    names = ("energy", "forces", "stress")
    results = {name: atoms.calc.results[name] for name in names if name in atoms.calc.results}
    frame.calc = SinglePointCalculator(frame, **results)
    text = io.StringIO()
    write_extxyz(text, [frame])
    return text.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def prepare_folder(path: Path) -> None:
    """Make the folder and be sure that files can be written there.

    Raises:
        MlipError: if they cannot.
    """
    probe = path / ".write_test"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise MlipError(
            f"cannot write to the folder {path} ({error.strerror}); choose another one."
        ) from error
