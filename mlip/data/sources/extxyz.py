"""Labelled structures from extended XYZ files, under any label keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from mlip.data.sources.cache import cached_index, plain_copy
from mlip.data.sources.compression import decompressed
from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import (
    OPTION,
    LabelKeys,
    available,
    label_values,
    require_keys,
    structure_from_atoms,
)
from mlip.data.sources.source import (
    BadRecordError,
    EnergyReference,
    decoding,
    reference_in,
)
from mlip.data.structure import Structure
from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase import Atoms

SUFFIXES = (".xyz", ".extxyz")
SHORTEST = 7  # bytes of an atom's line: H 0 0 0
TRAJECTORY_KEYS = ("trajectory", "sid")  # in the comment line
PADDED = 30  # bytes of a line that a program has written in columns, at least
ENCLOSED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|\{[^}]*\}|\[[^]]*\]'
PAIR = re.compile(rf"({ENCLOSED}|[^\s=]+)(?:\s*=\s*({ENCLOSED}|\S*))?")  # KEY=VALUE, or a bare KEY
SYMBOLS_FIRST = re.compile(r'Properties="?species:S:1[:"\s]')
FRAME = np.dtype([("offset", np.int64), ("size", np.int32), ("atoms", np.int32)])


def read_extxyz(
    path: Path | str, *, keys: LabelKeys | None = None, option: str = OPTION
) -> list[Structure]:
    """Read all frames of an extended XYZ file.

    Labels are taken from the frame's own arrays or from its calculator results, whichever holds
    the key. Forces are the file's, also on constrained atoms. A stress is read only for
    structures periodic in all three directions; elsewhere it has no meaning. `charge` (e) and
    `spin` (unpaired electrons) are read from the comment line, `config_type` becomes the group.

    Args:
        path: file ending in .xyz or .extxyz, or that followed by .xz or .gz.
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
    _require_extxyz(path)
    structures: list[Structure] = []
    present: Counter[str] = Counter()
    with decompressed(path) as content:
        for index, (_, text, _) in enumerate(frames(content, path)):
            name = f"{path.name}#{index}"
            atoms = parse_frame(text, name)
            present.update(available(label_values(atoms)))
            structures.append(structure_from_atoms(atoms, keys, name))
    if not structures:
        raise MlipError(f"{path} is empty; expected extended XYZ frames.")
    require_keys(path, keys, present, len(structures), option)
    return structures


class ExtxyzSource(LabelledFile):
    """The frames of an extended XYZ file, found by their byte offsets.

    A compressed file is decompressed once, into the cache folder. A frame whose comment line has
    `trajectory` or `sid` belongs to the trajectory of that name. `energy_reference` in the comment
    lines says what the energies count from: that in the first counts for all, and a frame with
    another cannot be used.

    Args:
        path: file ending in .xyz or .extxyz, or that followed by .xz or .gz.
        keys: names of the labels.
        energy_reference: what the energies count from, where the frames do not say.
        option: as in `read_extxyz`.

    Raises:
        MlipError: for a missing, empty or truncated file, or a label key that none of some frames
            has, taken from the whole length of the file.
    """

    def _prepare(self) -> None:
        _require_extxyz(self.path)
        if not len(self):
            raise MlipError(f"{self.path} is empty; expected extended XYZ frames.")

    @cached_property
    def _frames(self) -> np.ndarray:
        return cached_index(self.path, "frames", lambda: frame_table(self.path))

    def __len__(self) -> int:
        return len(self._frames)

    def num_atoms(self, index: int) -> int:
        return int(self._frames["atoms"][index])

    def atomic_numbers(self, index: int) -> np.ndarray:
        text = read_frame(plain_copy(self.path), self._frames[index])
        return frame_numbers(text, self.identifier(index))

    def sizes(self) -> np.ndarray:
        return np.array(self._frames["atoms"])

    def __getitem__(self, index: int) -> Structure:
        name = self.identifier(index)
        atoms = self._atoms(index)
        self._require_reference(reference_in(atoms.info), name)
        with decoding(name):
            return structure_from_atoms(atoms, self._keys, name)

    def trajectory(self, index: int) -> str:
        name = self.identifier(index)
        comment = self._text(index).split(b"\n", 2)[1]
        with decoding(name):
            return _trajectory_in(comment.decode()) or name

    def _reference_in_file(self) -> EnergyReference | None:
        for index in range(len(self)):
            with suppress(BadRecordError):  # the first that can be read speaks for all
                return reference_in(self._atoms(index).info)
        return None

    def _require_reference(self, found: EnergyReference | None, name: str) -> None:
        if found not in (self._said, self._reference):
            raise BadRecordError(
                name,
                f"its energy is {found or 'unstated'}, those of the others are {self._reference}; "
                "write frames whose energies count from different zeros into different files.",
            )

    def _keys_of(self, index: int) -> set[str]:
        return available(label_values(self._atoms(index)))

    def _atoms(self, index: int) -> Atoms:
        return parse_frame(self._text(index), self.identifier(index))

    def _text(self, index: int) -> bytes:
        return read_frame(plain_copy(self.path), self._frames[index])


def frames(content: IO[bytes], path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Cut a file into frames by the atom counts, checking that each is complete.

    Args:
        content: of the file, from its beginning.
        path: of the file, for messages.

    Yields:
        offset in bytes, text and number of atoms of a frame.

    Raises:
        MlipError: for a frame that has too few lines, is cut inside its last one, or does not start
            with a count.
    """
    offset = index = 0
    for header in content:
        start = offset
        offset += len(header)
        if not header.strip():
            continue
        if not header.strip().isdigit():
            raise MlipError(
                f"{path}: frame {index} starts with {_legible(header)} where its number "
                "of atoms was expected; the frame before it has lines too many or too few."
            )
        count = int(header)
        lines = list(islice(content, count + 1))
        if len(lines) <= count or min(map(len, lines[1:]), default=SHORTEST) < SHORTEST:
            found = sum(bool(line.strip()) for line in lines[1:])
            if found < count:
                raise MlipError(
                    f"{path}: frame {index} announces {count} atoms but has {found}: the file is "
                    "truncated; copy it again or remove the frame."
                )
        _require_whole_line(lines, path, index)
        text = b"".join([header, *lines])
        offset = start + len(text)
        yield start, text, count
        index += 1


def _require_whole_line(lines: list[bytes], path: Path, index: int) -> None:
    """Refuse a last line without end that is shorter than all others, where these are equally long.

    Cut inside its last number it would read as another one.
    """
    *others, last = lines[1:] or [b"\n"]
    lengths = {len(line.rstrip()) for line in others}
    if not last.endswith(b"\n") and len(others) > 1 and len(lengths) == 1:
        (length,) = lengths
        if len(last) < length >= PADDED:
            raise MlipError(
                f"{path}: the last line of frame {index} ends after {len(last)} of {length} "
                "characters: the file is truncated; copy it again or remove the frame."
            )


def frame_table(path: Path, content_of: Path | None = None) -> np.ndarray:
    """Where the frames of a file stand and how many atoms they have, an array of `FRAME`.

    Offsets are those in the decompressed file.

    Args:
        path: the file.
        content_of: where to read its content, such as a decompressed copy.

    Raises:
        MlipError: as `frames`, or if the file cannot be decompressed.
    """
    with decompressed(content_of or path) as content:
        table = ((start, len(text), count) for start, text, count in frames(content, path))
        return np.fromiter(table, FRAME)


def read_frame(plain: Path, frame: np.ndarray) -> bytes:
    """The text of a frame; the file is opened anew, which is safe in every thread and process."""
    with plain.open("rb") as content:
        content.seek(int(frame["offset"]))
        return content.read(int(frame["size"]))


def parse_frame(text: bytes, name: str) -> Atoms:
    """ASE atoms of a frame.

    Args:
        text: of the frame.
        name: of the record, `FILE#INDEX`.

    Raises:
        BadRecordError: for a frame that is no valid extended XYZ.
    """
    from ase.io.extxyz import read_xyz

    try:
        return next(read_xyz(StringIO(text.decode()), index=0))
    except (ValueError, KeyError, IndexError, OSError, TypeError) as error:
        raise BadRecordError(
            name,
            f"frame {name.rpartition('#')[2]} is not valid extended XYZ ({error}); "
            "compare it with its neighbours and mend or remove it.",
        ) from error


def frame_numbers(text: bytes, name: str) -> np.ndarray:
    """Atomic numbers of a frame, int32: of the symbols in the first column, if that holds them.

    Args:
        text: of the frame.
        name: of the record.

    Raises:
        BadRecordError: as `parse_frame`, or for an unknown symbol.
    """
    from ase.data import atomic_numbers

    with decoding(name):
        count, comment, *lines = text.decode().splitlines()
        if SYMBOLS_FIRST.search(comment) is None:
            return np.asarray(parse_frame(text, name).numbers, np.int32)
        symbols = (line.split(None, 1)[0].capitalize() for line in lines[: int(count)])
        return np.array([atomic_numbers[symbol] for symbol in symbols], np.int32)


def _trajectory_in(comment: str) -> str | None:
    """The name of a trajectory as it is written: ASE would read 0042, or 4_2, as the number 42."""
    found = {match[1]: match[2] for match in PAIR.finditer(comment)}
    name = next((found[key] for key in TRAJECTORY_KEYS if found.get(key)), None)
    if name is None or re.fullmatch(ENCLOSED, name) is None:
        return name
    return re.sub(r"\\(.)", r"\1", name[1:-1])


def _require_extxyz(path: Path) -> None:
    if not path.name.removesuffix(".xz").removesuffix(".gz").endswith(SUFFIXES):
        raise MlipError(
            f"{path}: expected a file ending in {' or '.join(SUFFIXES)}, or that and .xz or .gz."
        )
    if not path.is_file():
        raise MlipError(
            f"{path} does not exist; check its name, and dataset.root if it is part of one."
        )


def _legible(line: bytes) -> str:
    return repr(line.strip()[:40].decode(errors="backslashreplace"))
