"""The small data sets are the files that their scripts made, and small."""

import hashlib

import pytest


@pytest.fixture(params=["pubchemqcr_mini", "oc20_mini"])
def folder(root, request):
    return root / "datasets" / request.param


def test_no_file_was_altered(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present == {*listed, "SHA256SUMS", "README.md"}


def test_both_stay_below_eight_megabytes(root):
    files = [
        path
        for name in ("pubchemqcr_mini", "oc20_mini")
        for path in (root / "datasets" / name).rglob("*")
    ]
    assert 0 < sum(path.stat().st_size for path in files if path.is_file()) < 8e6
