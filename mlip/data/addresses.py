"""The list of public data sets: names, addresses and checksums of their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import Field, ValidationError

from mlip.errors import MlipError
from mlip.settings import Settings

PACKAGED = Path(__file__).with_name("addresses.yaml")


class RemoteFile(Settings):
    """One file to download."""

    url: str | None = Field(None, description="address; null: the base and the name")
    md5: str | None = Field(None, description="checksum, if the publisher names one")
    sha256: str | None = Field(None, description="checksum, if the publisher names one")
    unpack: bool = Field(False, description="whether it is a tar archive to be unpacked")


class RemoteDataset(Settings):
    """A public data set."""

    about: str = Field(description="what it is")
    base: str = Field("", description="address that the names of the files are put behind")
    files: dict[str, RemoteFile] = Field(default_factory=dict, description="by name")
    listing: str | None = Field(None, description="address of a listing of Hugging Face")
    default: tuple[str, ...] = Field(("*",), description="patterns of the files that are meant")

    def address(self, name: str) -> str:
        """Where a file is."""
        return self.files[name].url or f"{self.base}/{quote(name)}"


def read_addresses(path: Path | None = None) -> dict[str, RemoteDataset]:
    """The data sets by name.

    Args:
        path: a list of your own, in the form of `mlip/data/addresses.yaml`; None: that one.

    Raises:
        MlipError: for a list that cannot be read.
    """
    path = path or PACKAGED
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: RemoteDataset.model_validate(dataset) for name, dataset in content.items()}
    except (OSError, yaml.YAMLError, ValidationError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise MlipError(f"{path} is no list of addresses: {reason}") from None


def find_dataset(addresses: dict[str, RemoteDataset], name: str) -> RemoteDataset:
    """A data set of the list.

    Raises:
        MlipError: if there is none of that name, with those there are.
    """
    if name not in addresses:
        raise MlipError(f"name={name}: there are addresses for {', '.join(addresses)}.")
    return addresses[name]


def files_of_listing(content: bytes, url: str) -> dict[str, RemoteFile]:
    """The files of a listing of Hugging Face; those stored as LFS have a checksum.

    Raises:
        MlipError: for something else than such a listing.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(content)
        return {
            entry["path"]: RemoteFile(sha256=entry.get("lfs", {}).get("oid"))
            for entry in entries
            if entry["type"] == "file"
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise MlipError(f"{url} did not answer with a listing of files; try again later.") from None


def choose_files(dataset: RemoteDataset, patterns: Sequence[str] | None) -> list[str]:
    """Names of the files that patterns such as `s2ef_val*` name.

    Args:
        dataset: with its files.
        patterns: of names; None: the default ones.

    Raises:
        MlipError: for a pattern that no file has, with the names there are.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns or dataset.default:
        found = [name for name in dataset.files if fnmatch(name, pattern)]
        if not found:
            raise MlipError(f"no file is called {pattern}; there are {', '.join(dataset.files)}.")
        chosen.update(dict.fromkeys(found))
    return list(chosen)
