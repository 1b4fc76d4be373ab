"""Every test has a cache folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of indices and decompressed files."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MLIP_CACHE", str(folder))
    return folder
