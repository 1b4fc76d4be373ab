"""OC20 and OC22 S2EF as downloaded: a folder of `N.extxyz.xz` with `N.txt.xz` beside each.

The k-th line of the text, `random<sid>,frame<fid>,<reference energy>`, belongs to the k-th frame.
The last column, in eV, turns the total energy into the adsorption energy; some releases lack it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from mlip.data.sources.cache import cached_index, copy_if_made, plain_copy
from mlip.data.sources.compression import COMPRESSED, decompressed
from mlip.data.sources.extxyz import (
    FRAME,
    frame_numbers,
    frame_table,
    frames,
    parse_frame,
    read_frame,
)
from mlip.data.sources.labels import (
    OPTION,
    SAMPLE,
    LabelKeys,
    available,
    label_values,
    lacking,
    require_keys,
    structure_from_atoms,
)
from mlip.data.sources.source import BadRecordError, EnergyReference, Source, decoding
from mlip.data.structure import Structure
from mlip.errors import MlipError

LINE = re.compile(r"random(\d+),frame(\d+)(?:,([^,]*))?")
ENTRY = np.dtype([*FRAME.descr, ("sid", "<i8"), ("fid", "<i8"), ("reference", "<f8")])
OPEN_CHUNKS = 64  # chunks whose tables stay in memory


class S2efChunk(Source):
    """The frames of one `N.extxyz.xz`; opening it reads the text alone.

    In order, the frames are read while they are decompressed. Access by index decompresses the
    chunk once, into the cache folder.

    Args:
        path: `N.extxyz`, `N.extxyz.xz` or `N.extxyz.gz`.
        keys: names of the labels; a frame without one that is not null cannot be used.
        energy_reference: `total`, or `referenced` for adsorption energies; None: adsorption
            energies where the text has reference energies.
        option: the user's option for the key of a label, for messages.

    Raises:
        MlipError: if the text is missing or has another form, or lacks reference energies that
            are asked for.
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
        self._option = option
        self._text = _text_beside(path)
        lines = _read_text(self._text)
        self._length = len(lines)
        has_references = bool(np.isfinite(lines["reference"]).any())
        self._wanted = energy_reference or ("referenced" if has_references else "total")
        if self._wanted not in ("total", "referenced"):
            raise MlipError(f"{path} has total or referenced energies, no {self._wanted} ones.")
        if self._wanted == "referenced" and not has_references:
            raise MlipError(
                f"{self._text} has no third column, the reference energies, so only total "
                "energies can be read; set energy_reference=total."
            )

    @property
    def files(self) -> tuple[Path, ...]:
        return self.path, self._text

    @property
    def energy_reference(self) -> EnergyReference:
        return self._wanted

    def __len__(self) -> int:
        return self._length

    @property
    def _frames(self) -> np.ndarray:
        return _table(
            self.path, self.path.stat().st_mtime_ns, self._text, self._text.stat().st_mtime_ns
        )

    def identifier(self, index: int) -> str:
        return f"{self.path.name}#{index}"

    def num_atoms(self, index: int) -> int:
        return int(self._frames["atoms"][index])

    def atomic_numbers(self, index: int) -> np.ndarray:
        text = read_frame(plain_copy(self.path), self._frames[index])
        return frame_numbers(text, self.identifier(index))

    def sizes(self) -> np.ndarray:
        return np.array(self._frames["atoms"])

    def trajectory(self, index: int) -> str:
        return str(_read_text(self._text)["sid"][index])  # as graphs call it

    def __getitem__(self, index: int) -> Structure:
        plain = plain_copy(self.path)  # first, so that the table is made of it
        frame = self._frames[index]
        return self._structure(index, read_frame(plain, frame), frame["reference"])

    def stream(self) -> Iterator[Structure | BadRecordError]:
        references = _read_text(self._text)["reference"]
        index = -1
        with decompressed(self.path) as content:
            for index, (_, text, _) in enumerate(frames(content, self.path)):
                if index < len(references):
                    try:
                        yield self._structure(index, text, references[index])
                    except BadRecordError as error:
                        yield error
        _require_equal(self.path, index + 1, self._text, len(references))

    @cached_property
    def _keys_seen(self) -> tuple[Counter[str], int]:
        """How many of the first frames have each key until all were seen; how many these are."""
        present: Counter[str] = Counter()
        looked_at = 0
        with decompressed(self.path) as content:
            for index, (_, text, _) in enumerate(islice(frames(content, self.path), SAMPLE)):
                if not lacking(self._keys, present):
                    break
                with suppress(BadRecordError):  # whoever reads it decides what becomes of it
                    atoms = parse_frame(text, self.identifier(index))
                    present.update(available(label_values(atoms)))
                    looked_at += 1
        return present, looked_at

    def _structure(self, index: int, text: bytes, reference: float) -> Structure:
        name = self.identifier(index)
        atoms = parse_frame(text, name)
        absent = lacking(self._keys, available(label_values(atoms)))
        if absent:
            require_keys(self.path, self._keys, *self._keys_seen, self._option)
            raise BadRecordError(
                name, f"it has no {' and no '.join(absent)}, which other frames of the chunk have."
            )
        with decoding(name):
            structure = structure_from_atoms(atoms, self._keys, name)
            if self._wanted == "total" or structure.energy is None:
                return structure
            if not np.isfinite(reference):
                raise BadRecordError(name, f"{self._text.name} has no reference energy for it.")
            return replace(structure, energy=structure.energy - float(reference))


def _text_beside(path: Path) -> Path:
    number = path.name.partition(".")[0]
    candidates = [path.with_name(f"{number}.txt{suffix}") for suffix in ("", *COMPRESSED)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise MlipError(
        f"{path} has no {number}.txt.xz beside it, which names its frames; copy it too, or read "
        "the file by itself with format=extxyz."
    )


def _read_text(text: Path) -> np.ndarray:
    """System, frame and reference energy of each line; NaN where a line has none."""
    return _parse_text(text, text.stat().st_mtime_ns)


@lru_cache(maxsize=OPEN_CHUNKS)
def _parse_text(text: Path, changed: int) -> np.ndarray:
    with decompressed(text) as content:
        lines = content.read().decode(errors="replace").split()
    if not lines:
        raise MlipError(f"{text} is empty; expected a line for each frame.")
    entries = np.zeros(len(lines), ENTRY)
    for index, line in enumerate(lines):
        match = LINE.fullmatch(line)
        try:
            assert match is not None
            sid, fid, reference = match.groups()
            entries[index]["sid"], entries[index]["fid"] = int(sid), int(fid)
            entries[index]["reference"] = float(reference) if reference else np.nan
        except (AssertionError, ValueError, OverflowError):
            raise MlipError(
                f"{text}: line {index + 1} is {line[:60]!r}, expected "
                "random<sid>,frame<fid>,<reference energy>."
            ) from None
    return entries


@lru_cache(maxsize=OPEN_CHUNKS)
def _table(path: Path, path_changed: int, text: Path, text_changed: int) -> np.ndarray:
    """An array of `ENTRY`: where each frame of a chunk stands and what its line says.

    The times of change tell files from those that they replaced.
    """
    return cached_index(path, f"frames-{text_changed}", lambda: _make_table(path, text))


def _make_table(path: Path, text: Path) -> np.ndarray:
    entries = _read_text(text).copy()
    found = frame_table(path, copy_if_made(path))
    _require_equal(path, len(found), text, len(entries))
    for name in FRAME.names or ():
        entries[name] = found[name]
    return entries


def _require_equal(path: Path, frames: int, text: Path, lines: int) -> None:
    if frames != lines:
        raise MlipError(
            f"{path} has {frames} frames but {text} has {lines} lines; one of them is truncated "
            "or of another chunk: download both again."
        )
