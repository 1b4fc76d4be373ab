"""Downloads from a local server."""

import hashlib
import io
import json
import lzma
import shutil
import tarfile

import numpy as np
import pytest
import yaml
from ase.io import write

from mlip.cli.main import main
from mlip.data.addresses import (
    RemoteFile,
    choose_files,
    files_of_listing,
    find_dataset,
    read_addresses,
)
from mlip.data.dataset import load_dataset
from mlip.data.dataset_settings import DatasetSettings
from mlip.data.download import RECORD, download, unpack
from mlip.errors import MlipError
from tests.support.http_server import serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"/data.bin": CONTENT}) as running:
        yield running


def fetch(server, folder, **checksums):
    file = RemoteFile(**checksums)
    return download(f"{server.address}/data.bin", folder / "data.bin", file, pause=0.0)


def test_a_file_is_fetched_and_verified(server, tmp_path):
    seen = []
    found = download(
        f"{server.address}/data.bin",
        tmp_path / "deep" / "data.bin",
        RemoteFile(md5=MD5),
        report=lambda done, total: seen.append((done, total)),
    )
    assert found.path.read_bytes() == CONTENT
    assert found.verified == "md5"
    assert found.sha256 == SHA256
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    names = {path.name for path in found.path.parent.iterdir()}
    assert names == {"data.bin", RECORD}


def test_what_is_there_is_verified_and_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path, sha256=SHA256)
    assert fetch(server, tmp_path, sha256=SHA256).verified == "sha256"
    assert len(server.asked) == 1


def test_an_unknown_checksum_is_recorded_and_compared_from_then_on(server, tmp_path):
    assert fetch(server, tmp_path).verified == ""
    assert (tmp_path / RECORD).read_text() == f"{SHA256}  data.bin\n"
    assert fetch(server, tmp_path).verified == "record"


def test_addresses_that_come_along_are_complete():
    addresses = read_addresses()
    assert {"3bpa", "rmd17", "oc20", "pubchemqcr"} <= set(addresses)
    for dataset in addresses.values():
        assert dataset.about
        for name, file in dataset.files.items():
            assert dataset.address(name).startswith("https://")
            assert file.md5 is None or len(file.md5) == 32
        if dataset.files:
            assert choose_files(dataset, None)
        else:
            assert dataset.listing.startswith("https://")
    oc20 = addresses["oc20"]
    assert choose_files(oc20, ["*val_ood*"]) == [
        "s2ef_val_ood_ads.tar", "s2ef_val_ood_cat.tar", "s2ef_val_ood_both.tar"
    ]  # fmt: skip
    assert oc20.address("s2ef_val_id.tar").endswith("/opencatalystproject/data/s2ef_val_id.tar")


def test_a_listing_gives_names_and_checksums():
    listing = [
        {"type": "directory", "path": "Data"},
        {"type": "file", "path": "Data/Data06.lmdb", "lfs": {"oid": SHA256}},
        {"type": "file", "path": "README.md"},
    ]
    files = files_of_listing(json.dumps(listing).encode(), "http://x")
    assert files["Data/Data06.lmdb"].sha256 == SHA256
    assert files["README.md"].sha256 is None
    assert "Data" not in files
    with pytest.raises(MlipError, match="did not answer with a listing"):
        files_of_listing(b"<html>", "http://x")


def test_mistakes_in_names(tmp_path):
    addresses = read_addresses()
    with pytest.raises(MlipError, match="name=oc21: there are addresses for 3bpa, "):
        find_dataset(addresses, "oc21")
    with pytest.raises(MlipError, match=r"no file is called train\.xyz; there are train_300K"):
        choose_files(addresses["3bpa"], ["train.xyz"])
    (tmp_path / "mine.yaml").write_text("x: {about: y, flies: {}}")
    with pytest.raises(MlipError, match="is no list of addresses"):
        read_addresses(tmp_path / "mine.yaml")


def archive(*names, contents=()):
    """Files that say hello, and others by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in {**dict.fromkeys(names, b"hello"), **dict(contents)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_archives_are_unpacked_once_and_only_into_the_folder(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive("split/0.txt", "split/1.txt"))
    assert unpack(path, tmp_path) == ["split"]
    assert (tmp_path / "split" / "1.txt").read_text() == "hello"
    (tmp_path / "split" / "1.txt").unlink()
    assert unpack(path, tmp_path) == ["split"]
    assert not (tmp_path / "split" / "1.txt").exists()
    shutil.rmtree(tmp_path / "split")
    assert unpack(path, tmp_path) == ["split"]
    assert (tmp_path / "split" / "1.txt").read_text() == "hello"
    evil = tmp_path / "evil.tar.gz"
    evil.write_bytes(archive("../outside.txt"))
    with pytest.raises(MlipError, match="cannot be unpacked"):
        unpack(evil, tmp_path / "inside")
    assert not (tmp_path / "outside.txt").exists()


def test_a_doubled_folder_becomes_a_single_one(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive("split/README", "./split/split/0.txt", "split/split/deep/1.txt"))
    assert unpack(path, tmp_path / "a") == ["split"]
    assert {p.name for p in (tmp_path / "a" / "split").iterdir()} == {"README", "0.txt", "deep"}
    assert (tmp_path / "a" / "split" / "deep" / "1.txt").read_text() == "hello"
    other = tmp_path / "b.tar.gz"  # two files of one name stay apart
    other.write_bytes(archive("split/README", "split/split/README"))
    assert unpack(other, tmp_path / "b") == ["split"]
    assert (tmp_path / "b" / "split" / "split" / "README").exists()
    evil = tmp_path / "evil.tar.gz"
    evil.write_bytes(archive("split/split/../../outside.txt"))
    with pytest.raises(MlipError, match="cannot be unpacked"):
        unpack(evil, tmp_path / "c")
    assert not (tmp_path / "outside.txt").exists()


def test_an_archive_of_oc20_is_downloaded_ready_for_the_data_set(
    server, tmp_path, make_water, root, monkeypatch
):
    """As published: the chunks stand two folders deep."""
    monkeypatch.setenv("MLIP_CACHE", str(tmp_path / "cache"))
    buffer = io.StringIO()
    write(buffer, [make_water(seed) for seed in range(2)], format="extxyz")
    name = "s2ef_val_id"
    members = {
        f"{name}/README": b"hello",
        f"{name}/{name}/0.extxyz.xz": lzma.compress(buffer.getvalue().encode()),
        f"{name}/{name}/0.txt.xz": lzma.compress(b"random1,frame0,-1.5\nrandom1,frame1,-1.5\n"),
    }
    server.files[f"/{name}.tar"] = archive(contents=members)
    files = {f"{name}.tar": {"unpack": True}}
    content = {"oc20": {"about": "x", "base": server.address, "files": files}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    words = ["data", "download", f"addresses={tmp_path}/mine.yaml", f"output={tmp_path}/oc20"]
    for _ in range(2):  # the second finds all done
        assert main([*words, "name=oc20"]) == 0
    shipped = yaml.safe_load((root / "configs" / "dataset" / "oc20.yaml").read_text())
    folders = {"train": name, "valid": f"{name}@:1", "root": tmp_path / "oc20"}
    dataset = load_dataset(DatasetSettings(**shipped | folders))
    assert [s.identifier for s in dataset.train] == ["0.extxyz.xz#0", "0.extxyz.xz#1"]
    assert dataset.energy_reference == "referenced"


def test_command(server, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = archive("split/0.txt")
    server.files |= {"/split.tar.gz": packed, "/sub/Data06.lmdb": b"lmdb"}
    checksum = hashlib.sha256(b"lmdb").hexdigest()
    server.files["/tree"] = json.dumps(
        [{"type": "file", "path": "sub/Data06.lmdb", "lfs": {"oid": checksum}}]
    ).encode()
    files = {"data.bin": {}, "split.tar.gz": {"unpack": True}}
    content = {
        "plain": {"about": "two files", "base": server.address, "files": files},
        "listed": {"about": "x", "base": server.address, "listing": f"{server.address}/tree"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    words = ["data", "download", "addresses=mine.yaml"]
    assert main(words) == 0
    assert "two files" in capsys.readouterr().out
    assert main([*words, "name=plain"]) == 0
    printed = capsys.readouterr().out
    assert f"its checksum is not known: {SHA256[:12]}… is recorded" in printed
    assert "unpacked to plain/split" in printed
    assert main([*words, "name=plain", "files=[data*]"]) == 0
    assert f"compared with the checksum in {RECORD}" in capsys.readouterr().out
    assert main([*words, "name=listed", "output=here"]) == 0
    assert "compared with the publisher's sha256" in capsys.readouterr().out
    assert (tmp_path / "here" / "sub" / "Data06.lmdb").read_bytes() == b"lmdb"
