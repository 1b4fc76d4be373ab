"""Labels under any key: looked up, checked and brought into shape, the same for every format."""

from __future__ import annotations

import difflib
import logging
from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from mlip.data.sources.source import BadRecordError
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

OPTION = "dataset.keys.{label}"  # the user's option for the key of a label
SAMPLE = 1000  # records looked at for a label key, at most, when a file is opened
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

    @model_validator(mode="before")
    @classmethod
    def _not_one_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                f"found {value!r}; expected a name for each label, such as "
                "keys.energy=REF_energy keys.forces=REF_forces"
            )
        return value

    @property
    def given(self) -> list[str]:
        """The keys that are not null."""
        return [
            key for key in (self.energy, self.forces, self.stress, self.virials) if key is not None
        ]


def structure_from_atoms(atoms: Atoms, keys: LabelKeys, name: str) -> Structure:
    """A structure with the labels that ASE atoms carry.

    Forces are those of the file, also on constrained atoms. `config_type` becomes the group.

    Args:
        atoms: as read by ASE.
        keys: names of the labels.
        name: of the record.

    Raises:
        BadRecordError: for a label that is not finite or has a wrong shape.
        MlipError: for a structure that is not plausible.
    """
    structure = Structure.from_atoms(atoms, name)
    return replace(
        structure,
        **read_labels(label_values(atoms), keys, name, len(atoms), structure.cell, structure.pbc),
        fixed=fixed_mask(as_dicts(atoms.constraints), len(atoms), name),
        tags=np.asarray(atoms.arrays["tags"], np.int32) if "tags" in atoms.arrays else None,
        group=str(atoms.info.get("config_type", "")),
    )


def label_values(atoms: Atoms) -> Mapping[str, Any]:
    """Every value that a frame has in itself or in its calculator, by key."""
    return ChainMap(atoms.info, atoms.arrays, atoms.calc.results if atoms.calc else {})


def read_labels(
    values: Mapping[str, Any],
    keys: LabelKeys,
    name: str,
    count: int,
    cell: np.ndarray,
    pbc: np.ndarray,
) -> dict[str, Any]:
    """The labels among the values of a record, in eV and Å: energy, forces, stress.

    A stress is read only for structures periodic in all three directions; elsewhere it has no
    meaning.

    Args:
        values: by key.
        keys: names of the labels; one that is not among the values gives None.
        name: of the record.
        count: of the atoms.
        cell: lattice vectors, Å, shape (3, 3).
        pbc: periodicity along each, shape (3,).

    Raises:
        BadRecordError: for a label that is not finite or has a wrong shape.
    """
    energy = _label(values, keys.energy, (), name)
    return {
        "energy": None if energy is None else float(energy),
        "forces": _label(values, keys.forces, (count, 3), name),
        "stress": _stress(values, keys, cell, name) if pbc.all() else None,
    }


def as_dicts(constraints: Sequence[Any]) -> list[Mapping[str, Any]]:
    """ASE's constraints as ASE writes them: their `name` and `kwargs`."""
    return [constraint.todict() for constraint in constraints]


def fixed_mask(
    constraints: Sequence[Mapping[str, Any]], count: int, name: str
) -> np.ndarray | None:
    """The atoms that ASE's constraints hold in place, shape (count,); None if there are none.

    That are those of `FixAtoms`, and of `FixCartesian` in all directions. Others leave atoms some
    freedom, and are ignored; a warning says so once for each file.

    Args:
        constraints: of the structure, as ASE writes them.
        count: of its atoms.
        name: of the record.
    """
    fixed = np.zeros(count, dtype=bool)
    for constraint in constraints:
        kind, options = constraint["name"], constraint["kwargs"]
        held = np.asarray(options.get("mask", True)) if kind == "FixCartesian" else np.array(True)
        if kind in ("FixAtoms", "FixCartesian") and held.all():
            indices = options["indices" if kind == "FixAtoms" else "a"]
            fixed[np.asarray(indices, np.int64)] = True
        elif held.any():  # as of free atoms, which extended XYZ gives a constraint, too
            _say_ignored(kind, name.partition("#")[0])
    return fixed if fixed.any() else None


@cache
def _say_ignored(kind: str, file: str) -> None:
    logger.warning(
        "%s: constraints by %s are ignored and their atoms count as free; only atoms held in place "
        "in all directions, by FixAtoms or FixCartesian, can be left out with mask_fixed=true",
        file,
        kind,
    )


def _label(
    values: Mapping[str, Any], key: str | None, shape: tuple[int, ...], name: str
) -> np.ndarray | None:
    """A finite float64 label of the given shape, None if the record lacks it."""
    if key is None or values.get(key) is None:
        return None
    array = _numbers(values[key], key, name)
    return _checked(array.squeeze() if shape == () else array, shape, key, name)


def _tensor(values: Mapping[str, Any], key: str | None, name: str) -> np.ndarray | None:
    """A finite label [3, 3] from nine components or six in ASE's Voigt order."""
    if key is None or values.get(key) is None:
        return None
    array = _numbers(values[key], key, name)
    if array.size == 6:
        xx, yy, zz, yz, xz, xy = array.ravel()
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif array.size == 9:
        array = array.reshape(3, 3)
    return _checked(array, (3, 3), key, name)


def _numbers(value: Any, key: str, name: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadRecordError(name, f"{key}={str(value)[:40]!r} is not a number.") from None


def _checked(array: np.ndarray, shape: tuple[int, ...], key: str, name: str) -> np.ndarray:
    if array.shape != shape:
        raise BadRecordError(name, f"{key} has shape {array.shape}, expected {shape}.")
    if not np.isfinite(array).all():
        raise BadRecordError(
            name,
            f"{key} is not finite; remove the frame, or its {key} if the label is simply missing.",
        )
    return array


def _stress(
    values: Mapping[str, Any], keys: LabelKeys, cell: np.ndarray, name: str
) -> np.ndarray | None:
    """Stress [3, 3] in eV/Å³ from a stress or virials label; both must agree."""
    stress = _tensor(values, keys.stress, name)
    virials = _tensor(values, keys.virials, name)
    if virials is not None:
        converted = -virials / abs(np.linalg.det(cell))
        if stress is not None and not np.allclose(stress, converted, rtol=1e-3, atol=1e-6):
            raise BadRecordError(
                name,
                f"{keys.stress} and −{keys.virials}/volume differ by "
                f"{np.abs(stress - converted).max():.2g} eV/Å³; set the key of the one with the "
                "wrong sign or unit to null.",
            )
        stress = converted
    if stress is None:
        return None
    if np.abs(stress - stress.T).max() > ASYMMETRY * max(np.abs(stress).max(), 1e-6):
        raise BadRecordError(name, "the stress is not symmetric; check its component order.")
    return (stress + stress.T) / 2


def available(values: Mapping[str, Any]) -> set[str]:
    """The keys of a record that could be those of labels."""
    return {*values} - {"numbers", "positions"}


def require_keys_in_sample(
    path: Path, keys: LabelKeys, count: int, keys_of: Callable[[int], set[str]], option: str
) -> None:
    """`require_keys` over records from the whole length of a file, until every key was seen.

    Args:
        path: the file, for the message.
        keys: names of the labels.
        count: number of records.
        keys_of: the keys that the record of an index has.
        option: as in `require_keys`.
    """
    required = {key for _, key in _required(keys)}
    present: Counter[str] = Counter()
    looked_at = 0
    for index in np.unique(np.linspace(0, count - 1, SAMPLE, dtype=int)).tolist():
        if required <= present.keys():
            return
        with suppress(BadRecordError):  # whoever reads it decides what becomes of it
            present.update(keys_of(index))
            looked_at += 1
    if looked_at:
        require_keys(path, keys, present, looked_at, option)


def _required(keys: LabelKeys) -> list[tuple[str, str]]:
    """Labels and their keys, without the default key of the stress, which is optional."""
    fields = LabelKeys.model_fields
    named = [(field, getattr(keys, field)) for field in fields]
    optional = ("stress", fields["stress"].default)
    return [(field, key) for field, key in named if key is not None and (field, key) != optional]


def lacking(keys: LabelKeys, present: Collection[str]) -> list[str]:
    """The keys of labels that must be among those of a record and are not."""
    return [key for _, key in _required(keys) if key not in present]


def require_keys(
    path: Path, keys: LabelKeys, present: Counter[str], frames: int, option: str
) -> None:
    """Fail for a requested key that no frame has; the default stress key is optional.

    Args:
        path: the file, for the message.
        keys: names of the labels.
        present: how many frames have each key.
        frames: how many were looked at.
        option: the user's option for the key of a label; null is suggested only for one with
            `{label}` in it.

    Raises:
        MlipError: listing the keys that are present.
    """
    for field, key in _required(keys):
        if present[key]:
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
