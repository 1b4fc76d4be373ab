"""The list of file formats, and opening a source by what the file shows of itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from mlip.data.sources.ase_database import AseDatabaseSource
from mlip.data.sources.ase_file import AseFileSource
from mlip.data.sources.ase_lmdb import NEXT_ID, AseLmdbSource
from mlip.data.sources.compression import COMPRESSED
from mlip.data.sources.concatenation import open_shards, shards
from mlip.data.sources.extxyz import ExtxyzSource
from mlip.data.sources.graphs import GraphListSource, GraphLmdbSource
from mlip.data.sources.hdf5 import Hdf5Source
from mlip.data.sources.labelled_file import LabelledFile
from mlip.data.sources.labels import OPTION, LabelKeys
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.md17 import Md17Source
from mlip.data.sources.prepared import ABOUT, PreparedSource
from mlip.data.sources.pubchemqcr import PubChemQcrSource
from mlip.data.sources.pubchemqcr_molecule import Stage
from mlip.data.sources.s2ef import S2efChunk
from mlip.data.sources.source import EnergyReference, Source
from mlip.errors import MlipError
from mlip.settings import Settings

FormatName = Literal[
    "extxyz", "s2ef", "graph_lmdb", "graph_list", "ase_lmdb", "pubchemqcr", "ase_db", "hdf5",
    "md17", "prepared", "ase",
]  # fmt: skip


class SourceSettings(Settings):
    """How a file or folder of labelled structures is read."""

    format: FormatName | None = Field(
        None, description="its format; null: found from the name and the content"
    )
    keys: LabelKeys = Field(default_factory=LabelKeys, description="names of the labels")
    energy_reference: EnergyReference | None = Field(
        None,
        description="what the energies shall count from: total, referenced (adsorption energies) "
        "or atomisation; they are converted where the file holds what it takes, and taken as "
        "such where it does not say; null: as they are",
    )
    stage: Stage = Field(
        "1st", description="PubChemQCR: pm3, hf, 1st, 1st_smash, 2nd or mixing (1st and 2nd)"
    )

    def for_source(self) -> SourceSettings:
        """These settings alone, without what those of a command or a data set add."""
        return SourceSettings(**{name: getattr(self, name) for name in SourceSettings.model_fields})


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        description: what it is, for listings.
        suffixes: endings of its files, without those of compression.
        open: a single file; the string is the user's option for a label key.
        first: number of the first shard in a folder; None for any.
        compressed: whether the files may be compressed.
    """

    description: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, SourceSettings, str], Source]
    first: int | None = None
    compressed: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """All endings of its files."""
        more = ("", *COMPRESSED) if self.compressed else ("",)
        return tuple(suffix + compression for suffix in self.suffixes for compression in more)


def _pubchemqcr(path: Path, settings: SourceSettings, option: str) -> Source:
    if settings.energy_reference not in (None, "total"):
        raise MlipError(f"{path}: PubChemQCR holds total energies; energy_reference must be total.")
    return PubChemQcrSource(path, stage=settings.stage, keys=settings.keys)


def _s2ef(path: Path, settings: SourceSettings, option: str) -> Source:
    return S2efChunk(
        path, keys=settings.keys, energy_reference=settings.energy_reference, option=option
    )


def _md17(path: Path, settings: SourceSettings, option: str) -> Source:
    return Md17Source(path, keys=settings.keys, energy_reference=settings.energy_reference)


def _prepared(path: Path, settings: SourceSettings, option: str) -> Source:
    return PreparedSource(path, keys=settings.keys, energy_reference=settings.energy_reference)


def _labelled(source: type[LabelledFile]) -> Callable[[Path, SourceSettings, str], Source]:
    """Opens a format whose labels may have any key."""
    return lambda path, settings, option: source(
        path, keys=settings.keys, energy_reference=settings.energy_reference, option=option
    )


FORMATS: dict[FormatName, Format] = {
    "extxyz": Format("extended XYZ", (".xyz", ".extxyz"), _labelled(ExtxyzSource), compressed=True),
    "s2ef": Format("OC20/OC22 S2EF as downloaded", (".extxyz",), _s2ef, 0, compressed=True),
    "graph_lmdb": Format("LMDB of pickled graphs", (".lmdb",), _labelled(GraphLmdbSource), 0),
    "graph_list": Format("pickled list of graphs", (".pkl",), _labelled(GraphListSource)),
    "ase_lmdb": Format("ASE-LMDB", (".aselmdb", ".lmdb"), _labelled(AseLmdbSource)),
    "pubchemqcr": Format("PubChemQCR LMDB", (".lmdb",), _pubchemqcr),
    "ase_db": Format("ASE database, SchNetPack", (".db",), _labelled(AseDatabaseSource)),
    "hdf5": Format("HDF5 of MACE", (".h5", ".hdf5"), _labelled(Hdf5Source)),
    "md17": Format("arrays of MD17, rMD17, MD22", (".npz",), _md17),
    "prepared": Format("what mlip data prepare writes", (".lmdb",), _prepared),
    "ase": Format("any other file that ASE reads", (), _labelled(AseFileSource)),
}
# Those that a folder may hold shards of, without being told so.
FOLDERS: tuple[FormatName, ...] = ("s2ef", "ase_lmdb", "graph_lmdb", "pubchemqcr", "hdf5")


def open_source(
    path: Path | str, settings: SourceSettings | None = None, *, option: str = OPTION
) -> Source:
    """Open a file or folder of labelled structures.

    The format follows from the ending of the name; an LMDB is told by its keys.

    Args:
        path: a file, or a folder of shards.
        settings: how to read it.
        option: the user's option for the key of a label, for messages; null is suggested only for
            one with `{label}` in it.

    Raises:
        MlipError: for a path that does not exist, a format that is not recognised, or whatever
            the format finds wrong.
    """
    path = Path(path).expanduser()
    settings = settings or SourceSettings()
    if not path.exists():
        raise MlipError(
            f"{path} does not exist; {_near(path)}check its name, and dataset.root if it is part "
            "of one."
        )
    name = settings.format or find_format(path)
    chosen = FORMATS[name]
    default_stage = SourceSettings.model_fields["stage"].default
    if name != "pubchemqcr" and settings.stage != default_stage:
        raise MlipError(
            f"{path}: stage={settings.stage} has an effect on PubChemQCR's own files only, and "
            f"this is {chosen.description}; leave it out, or set it to {default_stage}."
        )
    if not path.is_dir():
        return chosen.open(path, settings, option)
    files = shards(path, chosen.endings, first=chosen.first) if chosen.endings else []
    if not files:
        raise MlipError(
            f"{path} is a folder without files ending in {' or '.join(chosen.endings)}; "
            f"format {name} reads {chosen.description}."
        )
    return open_shards(files, lambda file: chosen.open(file, settings, option))


def find_format(path: Path) -> FormatName:
    """The format of a file or folder, from its name, that of its files, or the keys of an LMDB.

    Raises:
        MlipError: if it is none that is known, or a folder holds shards of several.
    """
    if path.is_dir():
        return _format_of_folder(path)
    if path.suffix in (".lmdb", ".mdb"):
        return _format_of_lmdb(path)
    plain = path.name.removesuffix(path.suffix) if path.suffix in COMPRESSED else path.name
    number = path.name.partition(".")[0]
    if number.isdigit() and any(path.parent.glob(f"{number}.txt*")):
        return "s2ef"
    for name, candidate in FORMATS.items():
        if name != "s2ef" and candidate.suffixes and plain.endswith(candidate.suffixes):
            return name
    return "ase"


def _format_of_folder(folder: Path) -> FormatName:
    found: dict[FormatName, str] = {}  # the first file of each
    for file in sorted(folder.iterdir()):
        name = next((name for name in FOLDERS if file.name.endswith(FORMATS[name].endings)), None)
        if name is not None:
            name = _format_of_lmdb(file) if file.suffix == ".lmdb" else name
            found.setdefault(name, file.name)
    if len(found) == 1:
        return next(iter(found))
    if found:
        files = ", ".join(f"{file} ({FORMATS[name].description})" for name, file in found.items())
        raise MlipError(
            f"{folder} holds shards of {len(found)} formats: {files}; say which to read with "
            f"format={' or format='.join(found)} (dataset.format of a data set), name a single "
            "file, or take the others away."
        )
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    hint = f", or the name of a folder in it, such as {inside[0]}" if inside else ""
    raise MlipError(
        f"{folder} is a folder without files of a known kind; expected shards such as "
        f"0.extxyz.xz with 0.txt.xz, data.0000.lmdb, Data01.lmdb, *.aselmdb or *.h5{hint}."
    )


def _near(path: Path) -> str:
    """A question about files beside one that does not exist, if some have a similar name."""
    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=2)
    return f"did you mean {' or '.join(near)}? Else " if near else ""


def _format_of_lmdb(path: Path) -> FormatName:
    file = LmdbFile(path)
    if file.get(NEXT_ID) is not None:
        return "ase_lmdb"
    if file.get(ABOUT) is not None:
        return "prepared"
    if file.get(b"0") is not None:
        return "graph_lmdb"
    first = next(iter(file))
    if len(first) == 9 and first.isdigit():
        return "pubchemqcr"
    raise MlipError(
        f"{path}: its first key is {first[:20]!r}, which no known format has (pickled graphs: 0, "
        "1, …; ASE-LMDB: nextid; PubChemQCR: nine digits; prepared data: about)."
    )
