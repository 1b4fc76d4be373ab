"""Every format that is written reads back as it was, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest

from mlip.cli.main import main
from mlip.data.convert import convert
from mlip.data.files import Files
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.lmdb_file import LmdbFile
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.sources.source import BadRecordError
from mlip.errors import MlipError
from tests.data.sources.test_prepared import BARE, FULL, assert_same, prepared

# What is lost in every format but our own stays out of these.
PLAIN = replace(FULL, spin=0.0, weight=1.0, pbc=np.full(3, True), group="hot surface")
STRUCTURES = [PLAIN, BARE, replace(PLAIN, fixed=None, tags=None, stress=None, charge=0.0)]


@pytest.fixture
def part(tmp_path):
    path = prepared(tmp_path / "all.lmdb", STRUCTURES)
    return Files(tmp_path, SourceSettings()).open(path.name)


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".aselmdb", ".db"])
def test_round_trip_is_exact(part, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    converted = convert(part, output)
    assert converted.records == 3
    source = open_source(output)
    for found, expected in zip(source, STRUCTURES, strict=True):
        assert_same(found, expected)
    assert [path.name for path in tmp_path.glob("out*")] == [output.name]
    assert source.energy_reference == "total"
    with pytest.raises(MlipError, match=rf"out{suffix} holds total energies, which cannot be"):
        open_source(output, SourceSettings(energy_reference="referenced"))
    if suffix == ".db":
        assert converted.lost == {"trajectory": 3}
    else:
        assert source.trajectory(2) == "walk 1"
        assert not converted.lost


def test_what_a_format_cannot_hold_is_counted(tmp_path):
    prepared(tmp_path / "all.lmdb", [FULL, BARE])
    part = Files(tmp_path, SourceSettings()).open("all.lmdb")
    lost = convert(part, tmp_path / "out.db").lost
    assert lost == {"spin": 1, "weight": 1, "trajectory": 2}
    assert convert(part, tmp_path / "out.xyz").lost == {"weight": 1}
    found = open_source(tmp_path / "out.xyz")[0]
    assert found.spin == 2.0
    np.testing.assert_array_equal(found.pbc, [True, True, False])


def test_many_rows_are_written_in_several_transactions(tmp_path):
    prepared(tmp_path / "all.lmdb", [replace(BARE, energy=-float(n)) for n in range(1203)])
    part = Files(tmp_path, SourceSettings()).open("all.lmdb@1:")
    convert(part, tmp_path / "out.aselmdb")
    no_forces = SourceSettings(keys=LabelKeys(forces=None))
    source = open_source(tmp_path / "out.aselmdb", no_forces)
    assert [s.energy for s in source] == [-float(n) for n in range(1, 1203)]
    assert LmdbFile(tmp_path / "out.aselmdb").entries == 1202 + len(("nextid", "metadata"))


def test_command(tmp_path, capsys):
    prepared(tmp_path / "all.lmdb", STRUCTURES, energy_reference="referenced")
    words = ["data", "convert", f"data={tmp_path}/all.lmdb"]
    assert main([*words, f"output={tmp_path}/out.xyz"]) == 0
    printed = capsys.readouterr().out
    assert "out.xyz holds 3 records" in printed
    assert open_source(tmp_path / "out.xyz").energy_reference == "referenced"
    assert main([*words, f"output={tmp_path}/again.lmdb"]) == 0
    again = open_source(tmp_path / "again.lmdb")
    assert again.energy_reference == "referenced"
    for found, expected in zip(again, STRUCTURES, strict=True):
        assert_same(found, expected)
    assert again.trajectory(2) == "walk 1"
    assert "all.lmdb: 3 records" in capsys.readouterr().out
    assert main([*words, f"output={tmp_path}/again.lmdb"]) == 0
    assert "again.lmdb is finished; nothing was left to do" in capsys.readouterr().out


def test_frames_of_two_references_in_one_file_cannot_be_used_together(part, tmp_path):
    convert(part, tmp_path / "total.xyz")
    stated = Files(tmp_path, SourceSettings(energy_reference="referenced"))
    bare = (tmp_path / "total.xyz").read_text().replace("energy_reference=total", "")
    (tmp_path / "bare.xyz").write_text(bare)
    convert(stated.open("bare.xyz"), tmp_path / "referenced.xyz")
    texts = {name: (tmp_path / f"{name}.xyz").read_text() for name in ("total", "referenced")}
    for second in (texts["referenced"], bare):
        (tmp_path / "both.xyz").write_text(texts["total"] + second)
        *whole, first, _, _ = open_source(tmp_path / "both.xyz").stream()
        assert [structure.energy for structure in whole] == [s.energy for s in STRUCTURES]
        assert isinstance(first, BadRecordError)
        assert "those of the others are total" in str(first)
    convert(Files(tmp_path, SourceSettings()).open("bare.xyz"), tmp_path / "again.xyz")
    assert open_source(tmp_path / "again.xyz").energy_reference == "unstated"


def test_mistakes(part, tmp_path):
    with pytest.raises(MlipError, match=r"expected a name ending in \.xyz"):
        convert(part, tmp_path / "out.pdb")
    (tmp_path / "out.xyz").touch()
    with pytest.raises(MlipError, match=r"out\.xyz exists"):
        convert(part, tmp_path / "out.xyz")
