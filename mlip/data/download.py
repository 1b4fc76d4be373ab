"""Downloading files: resumed where the server allows it, verified, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from mlip.data.addresses import RemoteFile
from mlip.data.file_lock import lock_file
from mlip.errors import MlipError

BLOCK = 1 << 20  # bytes read at once
TIMEOUT = 60.0  # s without a byte
ATTEMPTS = 6  # without any progress
RECORD = "SHA256SUMS"  # in the folder; `sha256sum -c SHA256SUMS` checks it, too
GONE = (400, 401, 403, 404, 410)  # answers that another attempt will not change
DOUBLED = re.compile(r"^([^/]+)/\1(?=/|$)")
NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class Downloaded(NamedTuple):
    """A file that is there.

    Attributes:
        path: where.
        sha256: of its content.
        verified: what it was compared with: `md5`, `sha256`, `record`, or the empty string.
    """

    path: Path
    sha256: str
    verified: str


def download(
    url: str,
    target: Path,
    file: RemoteFile,
    *,
    report: Callable[[int, int | None], None] = lambda done, total: None,
    pause: float = 1.0,
) -> Downloaded:
    """Download a file, or go on with one of which a part is there.

    The part is kept as `NAME.part`. A lost connection is tried again with growing pauses, from
    the byte where it broke off. What has been downloaded is compared with the publisher's
    checksum or, where there is none, with the one recorded at the first download.

    Args:
        url: address.
        target: where the file goes.
        file: with its checksum, if it is known.
        report: called with the bytes that are there and those of the whole, if known.
        pause: before the first new attempt, s.

    Raises:
        MlipError: if the address does not exist, the connection is lost for good, the checksum
            differs, the disk is full, or another process is downloading the file.
    """
    if target.exists():
        return _verify(target, target, file)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as content:
            lock_file(content, f"another process is downloading {target}: wait for its end.")
            if target.exists():  # another process has finished it since
                part.unlink(missing_ok=True)
                return _verify(target, target, file)
            _fetch(url, content, part, report, pause)
            found = _verify(part, target, file)
            part.replace(target)
            _state(part).unlink(missing_ok=True)
            _record(target, found.sha256)
            return found
    except OSError as error:
        raise MlipError(
            f"{target} cannot be written ({error.strerror or error}); make room or choose another "
            "output, and start the same command again: it goes on where it stopped."
        ) from error


def fetch_text(url: str) -> bytes:
    """A small file, into memory.

    Raises:
        MlipError: if it cannot be had.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except (*NETWORK, ValueError) as error:
        raise MlipError(f"{url} cannot be read ({error}); check the connection.") from None


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a tar archive; what would leave the folder is refused.

    Those of OC20 hold `NAME/NAME/0.extxyz.xz`; such a doubled folder becomes a single one.

    Returns:
        names of the files and folders at its top.

    Raises:
        MlipError: if the archive is damaged or cannot be written.
    """
    marker = archive.with_name(archive.name + ".unpacked")
    if marker.exists():
        names = marker.read_text(encoding="utf-8").splitlines()
        if all((folder / name).exists() for name in names):
            return names
    try:
        with tarfile.open(archive) as content:
            places = _places(content.getnames())
            content.extractall(
                folder,
                filter=lambda member, path: tarfile.data_filter(
                    member.replace(name=places.get(member.name, member.name)), path
                ),
            )
        names = sorted({name.partition("/")[0] for name in places.values()} - {"."})
        marker.write_text("\n".join(names), encoding="utf-8")
    except (tarfile.TarError, EOFError) as error:
        raise MlipError(
            f"{archive} cannot be unpacked ({error}); remove it and start again."
        ) from None
    except OSError as error:
        raise MlipError(
            f"{archive} cannot be unpacked ({error.strerror or error}); make room and start the "
            "same command again."
        ) from error
    return names


def _places(names: Sequence[str]) -> dict[str, str]:
    """Where the members of an archive go: `a/a/b` to `a/b`, unless two would meet there."""
    cleaned = {name: name.removeprefix("./") for name in names}
    plain = {name: DOUBLED.sub(r"\1", place) for name, place in cleaned.items()}
    moved = {place for name, place in plain.items() if place != cleaned[name] and "/" in place}
    return cleaned if moved & set(cleaned.values()) else plain


def _fetch(
    url: str,
    content: IO[bytes],
    part: Path,
    report: Callable[[int, int | None], None],
    pause: float,
) -> None:
    """Complete a part, trying again as long as there is progress."""
    failures = 0
    while True:
        before = content.tell()
        try:
            if _request(url, content, part, report):
                return
            reason = "the connection was closed"
        except MlipError:
            raise
        except urllib.error.HTTPError as error:
            if error.code in GONE:
                raise MlipError(f"{url} answers {error.code} ({error.reason}).") from None
            reason = f"the server answers {error.code} ({error.reason})"
        except ValueError as error:
            raise MlipError(f"{url} is no address ({error}).") from None
        except NETWORK as error:
            reason = str(getattr(error, "reason", error))
        failures = 0 if content.tell() > before else failures + 1
        if failures == ATTEMPTS:
            raise MlipError(
                f"{url} cannot be downloaded: {reason}, {ATTEMPTS} times without progress; "
                f"{content.tell()} bytes are kept, and the same command goes on from there."
            )
        time.sleep(pause * 2**failures)


def _request(
    url: str, content: IO[bytes], part: Path, report: Callable[[int, int | None], None]
) -> bool:
    """Ask for what is missing of a part and write it.

    Returns:
        whether the part is now the whole file.
    """
    begin = content.tell()
    state = _read_state(part)
    if begin and begin == state.get("bytes"):
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "jax-mlip"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
        if state.get("version"):  # go on only if the file is still the same
            request.add_header("If-Range", state["version"])
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing behind that byte: the file is another one
            raise
        _empty(content)
        return False
    with answer:
        if answer.status != 206:  # the whole file: no resuming here, or it has changed
            _empty(content)
            begin = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            _empty(content)
            return False
        length = answer.headers.get("Content-Length")
        total = None if length is None else begin + int(length)
        _keep_state(part, total, answer.headers)
        if total is not None:
            _require_room(part, total - begin)
        report(begin, total)
        while block := answer.read(BLOCK):
            content.write(block)
            content.flush()
            report(content.tell(), total)
    return total is None or content.tell() >= total


def _empty(content: IO[bytes]) -> None:
    content.truncate(0)
    content.seek(0)


def _require_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise MlipError(
            f"{part.parent} has {free / 2**30:.1f} GiB of room, the rest of {part.stem} needs "
            f"{needed / 2**30:.1f}; make room or choose another output."
        )


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, Any]:
    try:
        content = json.loads(_state(part).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _keep_state(part: Path, total: int | None, headers: Any) -> None:
    """Remember which version of a file a part belongs to, and how large it is."""
    tag = headers.get("ETag")
    strong = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    state = {"version": strong, "bytes": total}
    _state(part).write_text(json.dumps(state), encoding="utf-8")


def _verify(path: Path, target: Path, file: RemoteFile) -> Downloaded:
    """Compare a file with its checksum; a wrong one is removed, unless it was there before."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(BLOCK):
            sha256.update(block)
            md5.update(block)
    recorded = _recorded(target)
    checks = (("md5", file.md5, md5.hexdigest()), ("sha256", file.sha256, sha256.hexdigest()),
              ("record", recorded, sha256.hexdigest()))  # fmt: skip
    for kind, expected, found in checks:
        if expected is None:
            continue
        if expected != found:
            removed = path != target
            if removed:
                path.unlink()
                _state(path).unlink(missing_ok=True)
            origin = f"the one recorded in {RECORD}" if kind == "record" else f"the {kind}"
            raise MlipError(
                f"{target.name} has the checksum {found}, but {origin} is {expected}: it is "
                "damaged or has been changed; "
                + ("it was removed, start again" if removed else "remove it and start again")
                + "."
            )
        return Downloaded(target, sha256.hexdigest(), kind)
    return Downloaded(target, sha256.hexdigest(), "")


def _recorded(target: Path) -> str | None:
    """The checksum of the first download."""
    record = target.parent / RECORD
    if not record.is_file():
        return None
    for line in record.read_text(encoding="utf-8").splitlines():
        checksum, _, name = line.partition("  ")
        if name == target.name:
            return checksum
    return None


def _record(target: Path, sha256: str) -> None:
    if _recorded(target) is None:
        with (target.parent / RECORD).open("a", encoding="utf-8") as record:
            record.write(f"{sha256}  {target.name}\n")
            record.flush()
            os.fsync(record.fileno())
