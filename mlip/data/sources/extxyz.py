"""Labelled structures from extended XYZ files, under any label keys."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms

SUFFIXES = (".xyz", ".extxyz")
ISOLATED_ATOM = "IsolatedAtom"  # the `config_type` of frames that give E0
ASYMMETRY = 1e-3  # largest asymmetry of a stress label, relative to its largest component


class LabelKeys(Settings):
    """Names of the labels in the file, looked up in the frame and in ASE's calculator results."""

    energy: str | None = Field("energy", description="key of the total energy, eV; null for none")
    forces: str | None = Field("forces", description="key of the forces, eV/Å; null for none")
    stress: str | None = Field(
        "stress",
        description="key of the stress, eV/Å³, tensile positive (ASE's sign), 3x3 or Voigt order "
        "xx yy zz yz xz xy; read where present, null for none",
    )
    virials: str | None = Field(
        None, description="key of the virials, eV; stress = −virials / volume; null for none"
    )


def read_extxyz(
    path: Path | str, *, keys: LabelKeys | None = None, option: str = "dataset.keys.{label}"
) -> list[Structure]:
    """Read all frames of an extended XYZ file.

    Labels are taken from the frame's own arrays or from its calculator results, whichever holds
    the key. Forces are the file's, also on constrained atoms. A stress is read only for
    structures periodic in all three directions; elsewhere it has no meaning. `charge` (e) and
    `spin` (unpaired electrons) are read from the comment line, `config_type` becomes the group.

    Args:
        path: file ending in .xyz or .extxyz.
        keys: names of the labels.
        option: the user's option for the key of a label, for messages; null is suggested only for
            one with `{label}` in it.

    Returns:
        the structures in file order, named `file.xyz#index`; a label that a frame lacks is None.

    Raises:
        MlipError: for a missing, empty or truncated file, a frame that cannot be parsed, a label
            key that no frame has, or a label that is not finite or has a wrong shape.
    """
    path = Path(path)
    keys = keys or LabelKeys()
    structures: list[Structure] = []
    present: Counter[str] = Counter()
    for index, atoms in enumerate(_frames(path)):
        identifier = f"{path.name}#{index}"
        present.update(_available(atoms))
        structures.append(_structure(atoms, keys, identifier))
    if not structures:
        raise MlipError(f"{path} is empty; expected extended XYZ frames.")
    _require_keys(path, keys, present, len(structures), option)
    return structures


def _frames(path: Path) -> Iterator[Atoms]:
    """Parse one frame after the other, so that an error can name the frame."""
    from ase.io.extxyz import read_xyz

    if path.suffix not in SUFFIXES:
        raise MlipError(f"{path}: expected a file ending in {' or '.join(SUFFIXES)}.")
    if not path.is_file():
        raise MlipError(
            f"{path} does not exist; check its name, and dataset.root if it is part of one."
        )
    try:
        contents = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MlipError(f"{path} is not a text file ({error}); expected extended XYZ.") from None
    for index, text in enumerate(_frame_texts(path, contents)):
        try:
            yield next(read_xyz(StringIO(text), index=0))
        except (ValueError, KeyError, IndexError, OSError, TypeError) as error:
            raise MlipError(
                f"{path}: frame {index} is not valid extended XYZ ({error}); "
                "compare it with its neighbours and mend or remove it."
            ) from error


def _frame_texts(path: Path, contents: str) -> Iterator[str]:
    """Cut the file into frames by the atom counts, checking that each is complete."""
    lines = iter(contents.splitlines(keepends=True))
    index = 0
    for header in lines:
        if not header.strip():
            continue
        if not header.strip().isdigit():
            raise MlipError(
                f"{path}: frame {index} starts with {header.strip()[:40]!r} where its number "
                "of atoms was expected; the frame before it has lines too many or too few."
            )
        count = int(header)
        frame = [header, *islice(lines, count + 1)]
        found = sum(bool(line.strip()) for line in frame[2:])
        if found < count:
            raise MlipError(
                f"{path}: frame {index} announces {count} atoms but has {found}: the file is "
                "truncated; copy it again or remove the frame."
            )
        yield "".join(frame)
        index += 1


def _structure(atoms: Atoms, keys: LabelKeys, identifier: str) -> Structure:
    count = len(atoms)
    structure = Structure.from_atoms(atoms, identifier)
    stress = None
    if structure.pbc.all():
        stress = _stress(atoms, keys, identifier)
    energy = _label(atoms, keys.energy, (), identifier)
    return replace(
        structure,
        energy=None if energy is None else float(energy),
        forces=_label(atoms, keys.forces, (count, 3), identifier),
        stress=stress,
        fixed=_fixed_atoms(atoms),
        group=str(atoms.info.get("config_type", "")),
    )


def _available(atoms: Atoms) -> set[str]:
    """Every key of a frame that could be a label."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return {*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"}


def _lookup(atoms: Atoms, key: str | None) -> Any:
    """A label from the frame itself or from its calculator, None if it has none."""
    if key is None:
        return None
    for holder in (atoms.info, atoms.arrays, atoms.calc.results if atoms.calc else {}):
        if key in holder:
            return holder[key]
    return None


def _label(
    atoms: Atoms, key: str | None, shape: tuple[int, ...], identifier: str
) -> np.ndarray | None:
    """A finite float64 label of the given shape, None if the frame lacks it."""
    value = _lookup(atoms, key)
    if value is None:
        return None
    assert key is not None
    array = _numbers(value, key, identifier)
    return _checked(array.squeeze() if shape == () else array, shape, key, identifier)


def _tensor(atoms: Atoms, key: str | None, identifier: str) -> np.ndarray | None:
    """A finite label [3, 3] from nine components or six in ASE's Voigt order."""
    value = _lookup(atoms, key)
    if value is None:
        return None
    assert key is not None
    array = _numbers(value, key, identifier)
    if array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif array.size == 9:
        array = array.reshape(3, 3)
    return _checked(array, (3, 3), key, identifier)


def _numbers(value: Any, key: str, identifier: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise MlipError(f"{identifier}: {key}={str(value)[:40]!r} is not a number.") from None


def _checked(array: np.ndarray, shape: tuple[int, ...], key: str, identifier: str) -> np.ndarray:
    if array.shape != shape:
        raise MlipError(f"{identifier}: {key} has shape {array.shape}, expected {shape}.")
    if not np.all(np.isfinite(array)):
        raise MlipError(
            f"{identifier}: {key} is not finite; remove the frame, or its {key} if the label is "
            "simply missing."
        )
    return array


def _stress(atoms: Atoms, keys: LabelKeys, identifier: str) -> np.ndarray | None:
    """Stress [3, 3] in eV/Å³ from a stress or virials label; both must agree."""
    stress = _tensor(atoms, keys.stress, identifier)
    virials = _tensor(atoms, keys.virials, identifier)
    if virials is not None:
        converted = -virials / atoms.get_volume()
        if stress is not None and not np.allclose(stress, converted, rtol=1e-3, atol=1e-6):
            raise MlipError(
                f"{identifier}: {keys.stress} and −{keys.virials}/volume differ by "
                f"{np.abs(stress - converted).max():.2g} eV/Å³; set the key of the one with the "
                "wrong sign or unit to null."
            )
        stress = converted
    if stress is None:
        return None
    if np.abs(stress - stress.T).max() > ASYMMETRY * max(np.abs(stress).max(), 1e-6):
        raise MlipError(f"{identifier}: the stress is not symmetric; check its component order.")
    return (stress + stress.T) / 2


def _fixed_atoms(atoms: Atoms) -> np.ndarray | None:
    from ase.constraints import FixAtoms

    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    return fixed if fixed.any() else None


def _require_keys(
    path: Path, keys: LabelKeys, present: Counter[str], frames: int, option: str
) -> None:
    """Fail for a requested key that no frame has; the default stress key is optional."""
    optional = LabelKeys.model_fields["stress"].default
    for field in LabelKeys.model_fields:
        key = getattr(keys, field)
        if key is None or present[key] or (field == "stress" and key == optional):
            continue
        listing = ", ".join(f"{name} ({count})" for name, count in sorted(present.items()))
        near = difflib.get_close_matches(key, present, n=1, cutoff=0.5)
        name = option.format(label=field)
        or_none = ", or to null if there is none" if name != option else ""
        hint = f"did you mean {name}={near[0]}?" if near else f"set {name} to one of them{or_none}."
        raise MlipError(
            f"{path}: none of the {frames} frames has the {field} key {key!r}; "
            f"keys present (frames): {listing or 'none'}; {hint}"
        )
