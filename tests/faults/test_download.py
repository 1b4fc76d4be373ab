"""Faults of networks, servers and disks while data are downloaded."""

import hashlib

import numpy as np
import pytest

from mlip.cli.main import main
from mlip.data import download as module
from mlip.data.addresses import RemoteFile
from mlip.data.download import ATTEMPTS, RECORD, download
from mlip.errors import MlipError
from tests.support.disk import largest_file
from tests.support.http_server import serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"/data.bin": CONTENT}) as running:
        yield running


def fetch(server, folder, **checksums):
    file = RemoteFile(**(checksums or {"md5": MD5}))
    return download(f"{server.address}/data.bin", folder / "data.bin", file, pause=0.0)


def test_a_dropped_connection_goes_on_from_that_byte(server, tmp_path):
    server.drops = [1_000_000, 500_000]
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_without_ranges_it_starts_again(server, tmp_path):
    server.drops, server.ranges = [1_000_000], False
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_file_that_has_changed_meanwhile_is_fetched_from_the_beginning(server, tmp_path):
    server.drops = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(MlipError, match="1000000 bytes are kept, and the same command goes on"):
        fetch(server, tmp_path)
    server.drops.clear()
    other = CONTENT[::-1]
    server.files["/data.bin"], server.version = other, '"two"'
    found = fetch(server, tmp_path, md5=hashlib.md5(other).hexdigest())
    assert found.path.read_bytes() == other


def test_an_interrupted_download_goes_on_with_the_next_command(server, tmp_path):
    server.drops = [2_000_000, *[0] * ATTEMPTS]
    with pytest.raises(MlipError, match="times without progress"):
        fetch(server, tmp_path)
    assert not (tmp_path / "data.bin").exists()
    server.asked.clear()
    server.drops.clear()
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=2000000-"]
    assert {path.name for path in tmp_path.iterdir()} == {"data.bin", RECORD}


def test_a_part_that_is_longer_than_the_file_is_given_up(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * (len(CONTENT) + 5))
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.failures = [503, 429]
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_twice(server, tmp_path):
    with pytest.raises(MlipError, match=r"nothing\.bin answers 404"):
        download(f"{server.address}/nothing.bin", tmp_path / "x", RemoteFile(), pause=0.0)
    assert len(server.asked) == 1


def test_nobody_answers(tmp_path):
    with serving({}) as server:
        address = server.address
    with pytest.raises(MlipError, match=r"cannot be downloaded: .*refused"):
        download(f"{address}/x", tmp_path / "x", RemoteFile(), pause=0.0)
    with pytest.raises(MlipError, match="is no address"):
        download("no address", tmp_path / "x", RemoteFile(), pause=0.0)


def test_a_wrong_checksum_removes_what_was_fetched(server, tmp_path):
    with pytest.raises(MlipError, match=f"{MD5}, but the md5 is {'0' * 32}.*was removed"):
        fetch(server, tmp_path, md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_and_is_damaged_is_named_and_kept(server, tmp_path):
    fetch(server, tmp_path, md5=MD5)
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(MlipError, match="remove it and start again"):
        fetch(server, tmp_path, md5=MD5)
    with pytest.raises(MlipError, match=f"the one recorded in {RECORD}"):
        download(f"{server.address}/data.bin", tmp_path / "data.bin", RemoteFile())
    assert (tmp_path / "data.bin").exists()


def test_a_full_disk_keeps_what_is_there(server, tmp_path):
    with (
        largest_file(1_500_000),
        pytest.raises(MlipError, match=r"make room .*goes on where it stopped"),
    ):
        fetch(server, tmp_path)
    assert (tmp_path / "data.bin.part").stat().st_size > 0
    server.asked.clear()
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[0][1] is not None


def test_too_little_room_is_known_before(server, tmp_path, monkeypatch):
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(MlipError, match=r"0\.0 GiB of room"):
        fetch(server, tmp_path)


def test_two_downloads_at_once(server, tmp_path):
    from mlip.data.file_lock import lock_file

    with (tmp_path / "data.bin.part").open("ab") as other:
        lock_file(other, "")
        with pytest.raises(MlipError, match="another process is downloading"):
            fetch(server, tmp_path)


def test_a_second_download_waits_for_the_comparison_of_the_first(server, tmp_path, monkeypatch):
    refused, verify = [], module._verify

    def meanwhile(path, target, file):
        monkeypatch.setattr(module, "_verify", verify)
        with pytest.raises(MlipError, match="another process is downloading"):
            fetch(server, tmp_path)
        refused.append(path.name)
        return verify(path, target, file)

    monkeypatch.setattr(module, "_verify", meanwhile)
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert refused == ["data.bin.part"]


def test_the_command_says_it_in_one_sentence(server, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(
        f"x: {{about: y, base: '{server.address}', files: {{gone.bin: {{}}}}}}"
    )
    words = ["data", "download", "name=x", f"addresses={tmp_path}/mine.yaml", f"output={tmp_path}"]
    assert main(words) == 2
    assert "mlip: error: http://127.0.0.1" in (message := capsys.readouterr().err)
    assert "answers 404" in message
