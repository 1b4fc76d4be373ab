"""Time reading of LMDB files by this project beside plain loops over them, in one process.

- Pickled graphs: `lmdb` and `pickle`, which needs torch and torch_geometric to be installed.
- ASE-LMDB: `ase.db` of ASE with ase-db-backends, if that is installed, and `lmdb` and `json`.
- Prepared data: `lmdb` without decoding anything.
- PubChemQCR: `lmdb`, `gzip` and `pickle`, to lists of dictionaries; and the same frames in prepared
  form, which is made first, in a temporary folder.

The plain loops hand out what the file holds; this project checked structures in eV and Å. Each is
timed in turn, A B A B …, opening included, in order and by index, with the file dropped from the
page cache (cold) and in it (warm). The index that a source of PubChemQCR makes of a file once is
timed apart, and so is the preparing. What is not installed is left out and named.

    python scripts/compare_reading_rates.py FILE [FILE …]
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import pickle
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import lmdb
import numpy as np

from mlip.data.prepare import prepare
from mlip.data.sources.lmdb_file import close_unread
from mlip.data.sources.prepared import RECORD
from mlip.data.sources.registry import SourceSettings, find_format, open_source

Loop = Callable[[Path], int]
"""Reads a file to its end and returns the number of frames."""


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    with environment.begin() as transaction:
        yield from transaction.cursor()
    environment.close()


def plain_pickle(path: Path) -> int:
    return sum(pickle.loads(value) is not None for key, value in entries(path) if key.isdigit())


def plain_gzip_pickle(path: Path) -> int:
    stage = "DFT_1st"
    return sum(len(pickle.loads(gzip.decompress(value))[stage] or ()) for _, value in entries(path))


def plain_json(path: Path) -> int:
    return sum(
        json.loads(zlib.decompress(value)) is not None
        for key, value in entries(path)
        if key.isdigit()
    )


def plain_ase(path: Path) -> int:
    import ase.db

    with ase.db.connect(str(path), type="aselmdb") as database:
        return sum(row.toatoms() is not None for row in database.select())


def plain_values(path: Path) -> int:
    return sum(len(value) > 0 for key, value in entries(path) if key.startswith(RECORD))


PLAIN: dict[str, dict[str, tuple[Loop, tuple[str, ...]]]] = {
    "graph_lmdb": {"lmdb + pickle (torch)": (plain_pickle, ("torch", "torch_geometric"))},
    "ase_lmdb": {
        "ase.db": (plain_ase, ("ase_db_backends",)),
        "lmdb + json": (plain_json, ()),
    },
    "prepared": {"lmdb, not decoded": (plain_values, ())},
    "pubchemqcr": {"lmdb + gzip + pickle": (plain_gzip_pickle, ())},
}


def in_order(path: Path) -> int:
    source = open_source(path)
    return sum(1 for _ in source.stream())


def shuffled(path: Path) -> int:
    source = open_source(path)
    order = np.random.default_rng(0).permutation(len(source))
    return sum(source[int(index)] is not None for index in order)


def drop_from_page_cache(path: Path) -> None:
    """The file must not be mapped by this process any more."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def rate(loop: Loop, path: Path, cold: bool) -> float:
    """Frames per second of one pass."""
    gc.collect()
    close_unread()  # mapped, it would stay in memory, and LMDB opens no file twice
    if cold:
        drop_from_page_cache(path)
    start = time.perf_counter()
    frames = loop(path)
    return frames / (time.perf_counter() - start)


def prepared(path: Path, folder: Path) -> Path:
    """The same frames in prepared form."""
    output, start = folder / "prepared.lmdb", time.perf_counter()
    found = prepare(str(path), output, SourceSettings(), cutoff=None, workers=0, skip_bad=True)
    seconds, megabytes = time.perf_counter() - start, output.stat().st_size / 1e6
    print(f"  prepared {found.records} frames in {seconds:.1f} s, {megabytes:.1f} MB")
    return output


def compare(path: Path, turns: int, folder: Path) -> None:
    name = find_format(path)
    loops: dict[str, tuple[Loop, Path]] = {
        "mlip, in order": (in_order, path),
        "mlip, shuffled": (shuffled, path),
    }
    if name == "pubchemqcr":
        output = prepared(path, folder)
        loops["prepared, in order"] = (in_order, output)
        loops["prepared, shuffled"] = (shuffled, output)
    for label, (loop, needs) in PLAIN[name].items():
        missing = [module for module in needs if find_spec(module) is None]
        if missing:
            print(f"  {label} is left out: {', '.join(missing)} not installed")
        else:
            loops[label] = (loop, path)
    start = time.perf_counter()
    frames = len(open_source(path, SourceSettings()))
    opened = time.perf_counter() - start
    megabytes = path.stat().st_size / 1e6
    print(f"{path.name}: {name}, {frames} frames, {megabytes:.1f} MB, opened in {opened:.2f} s")
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(turns):
        for cold in (True, False):
            for label, (loop, file) in loops.items():
                found.setdefault((label, cold), []).append(rate(loop, file, cold))
    print(f"  {'':<24}{'cold':>12}{'warm':>12}  frames/s, medians of {turns} turns")
    for label in loops:
        cold, warm = (statistics.median(found[label, state]) for state in (True, False))
        print(f"  {label:<24}{cold:>12.0f}{warm:>12.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="LMDB files of any form")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    for path in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            compare(path, arguments.turns, Path(folder))


if __name__ == "__main__":
    main()
