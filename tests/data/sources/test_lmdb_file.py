import gc
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import lmdb
import pytest

from mlip.data.sources import lmdb_file
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.lmdb_file import _open as open_file
from mlip.errors import MlipError
from tests.data.sources.written import write_lmdb

FORKED = """
import os, sys
from pathlib import Path
from mlip.data.sources.lmdb_file import LmdbFile
file = LmdbFile(Path(sys.argv[1]))
before = file.get(b"7")
child = os.fork()
again = LmdbFile(Path(sys.argv[1]))
good = file.get(b"7") == again.get(b"7") == before == b"x" * 1000
if not child:
    os._exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert good and file.get(b"8") is not None
"""


def write(tmp_path):
    return write_lmdb(tmp_path / "a.lmdb", {b"%d" % i: b"x" * 1000 for i in range(100)})


def test_a_file_may_be_opened_more_than_once(tmp_path):
    path = write(tmp_path)
    first, second = LmdbFile(path), LmdbFile(path)
    assert first.entries == second.entries == 100
    del first
    gc.collect()
    assert second.get(b"99") == b"x" * 1000
    assert second.get(b"100") is None
    assert sorted(second, key=int) == [b"%d" % i for i in range(100)]


def test_what_was_read_does_not_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_file, "RENEWAL", 50)
    path = write(tmp_path)
    file = LmdbFile(path)
    opened = []
    monkeypatch.setattr(lmdb_file, "_open", lambda *how: opened.append(how) or open_file(*how))
    for index in range(120):
        assert file.get(b"%d" % (index % 100)) == b"x" * 1000
    assert len(opened) in (2, 3)


def test_in_order_the_system_may_read_ahead(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(lmdb_file, "_open", lambda *how: opened.append(how) or open_file(*how))
    file = LmdbFile(write(tmp_path))
    assert len(list(file.items())) == len(list(file)) == 100
    assert file.get(b"1") is not None
    assert [readahead for _, readahead in opened] == [False, True, False]


def test_values_asked_for_in_order_may_be_read_ahead(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(lmdb_file, "RENEWAL", 10**9)  # counted over all tests before, too
    monkeypatch.setattr(lmdb_file, "_open", lambda *how: opened.append(how[1]) or open_file(*how))
    file = pickle.loads(pickle.dumps(LmdbFile(write(tmp_path))))
    for read_ahead in (False, True, False):
        with file.reading_in_order() if read_ahead else nullcontext():
            assert all(file.get(b"%d" % index) for index in range(20))
    assert opened == [False, True, False]


def test_whatever_lmdb_finds_wrong_names_the_file(tmp_path):
    file = LmdbFile(write(tmp_path))
    for reading in (file.items(), iter(file), file.values(b"1")):
        next(reading)
        with pytest.raises(MlipError, match=r"a\.lmdb is damaged \(mdb_page_get"):
            reading.throw(lmdb.CorruptedError("mdb_page_get"))
    assert file.get(b"1") is not None


def test_many_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_file, "RENEWAL", 7)
    file = LmdbFile(write(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda index: file.get(b"%d" % (index % 100)), range(2000)))
    assert set(values) == {b"x" * 1000}


def test_a_forked_process_opens_it_anew(tmp_path):
    command = [sys.executable, "-c", FORKED, str(write(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_replaced_is_read_anew(tmp_path):
    path = write(tmp_path)
    before = LmdbFile(path)
    assert before.get(b"7") == b"x" * 1000
    write_lmdb(tmp_path / "b.lmdb", {b"7": b"new"}).replace(path)
    after = LmdbFile(path)
    assert (after.get(b"7"), after.entries) == (b"new", 1)
    with pytest.raises(MlipError, match=r"a\.lmdb has been changed or replaced while it was read"):
        before.get(b"8")


def test_a_file_that_is_written_over_is_read_anew(tmp_path):
    path = write(tmp_path)
    assert LmdbFile(path).get(b"new") is None
    path.write_bytes(write_lmdb(tmp_path / "b.lmdb", {b"new": b"value"}).read_bytes())
    assert LmdbFile(path).get(b"new") == b"value"
