"""What dynamics and a relaxation start from: one structure and a saved potential."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlip.cli.console import console
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms

    from mlip.cli.schema import MDConfig, RelaxConfig
    from mlip.potential import Potential


def open_simulation(settings: MDConfig | RelaxConfig) -> tuple[Atoms, Potential]:
    """Read structure and potential, and say with what is computed.

    Raises:
        MlipError: if one of them cannot be opened.
    """
    import mlip
    from mlip import runtime

    runtime.prepare(threads=settings.n_threads)
    atoms = read_structure(settings.structure, settings.index)
    potential = mlip.load(settings.model)
    console().print(f"{potential!r}; {runtime.summary()}", markup=False)
    return atoms, potential


def read_structure(path: Path, index: int) -> Atoms:
    """One frame of a file in any format that ASE knows.

    Args:
        path: the file.
        index: which frame; negative from the end.

    Raises:
        MlipError: if the file cannot be read or has no such frame.
    """
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    try:
        atoms = read(path, index=index)
    except (IndexError, StopIteration) as error:
        raise MlipError(f"{path} has no frame {index}; choose another index.") from error
    except UnknownFileTypeError as error:
        raise MlipError(
            f"{path}: ASE does not know this kind of file; expected for example .xyz or .cif."
        ) from error
    except Exception as error:  # ASE's many readers raise whatever a malformed file makes them
        raise MlipError(f"{path} cannot be read as a structure: {error}.") from error
    return atoms
