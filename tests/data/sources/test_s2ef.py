import lzma
import pickle

import numpy as np
import pytest
from ase.io import read, write

from mlip.data.sources import cache, extxyz
from mlip.data.sources.compression import decompressed
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.sources.s2ef import S2efChunk
from mlip.errors import MlipError

REFERENCES = [-2100.5, -2050.25, -2000.0]


@pytest.fixture
def chunk(tmp_path, make_water):
    """Three frames of two systems, with reference energies."""
    return write_chunk(tmp_path, 0, [make_water(seed) for seed in range(3)], REFERENCES)


def write_chunk(folder, number, frames, references):
    path = folder / f"{number}.extxyz.xz"
    with lzma.open(path, "wt") as file:
        write(file, frames, format="extxyz")
    lines = [f"random{index // 2},frame{index}" for index in range(len(frames))]
    if references:
        lines = [f"{line},{energy}" for line, energy in zip(lines, references, strict=True)]
    with lzma.open(folder / f"{number}.txt.xz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


def test_adsorption_and_total_energies(chunk, make_water):
    totals = [make_water(seed).get_potential_energy() for seed in range(3)]
    adsorption = open_source(chunk)
    assert adsorption.energy_reference == "referenced"
    np.testing.assert_allclose(
        [structure.energy for structure in adsorption], np.subtract(totals, REFERENCES)
    )
    total = open_source(chunk, SourceSettings(energy_reference="total"))
    assert total.energy_reference == "total"
    np.testing.assert_allclose([total[index].energy for index in range(3)], totals)


def test_by_index_as_in_order(chunk):
    source = S2efChunk(chunk)
    for index, structure in enumerate(source):
        again = pickle.loads(pickle.dumps(source))[index]
        assert again.identifier == structure.identifier == f"0.extxyz.xz#{index}"
        assert again.energy == structure.energy
        np.testing.assert_array_equal(again.forces, structure.forces)
    np.testing.assert_array_equal(source.sizes(), [3, 3, 3])
    assert [source.trajectory(i) for i in range(3)] == ["0", "0", "1"]


def test_by_index_a_chunk_is_decompressed_once(chunk, monkeypatch):
    read_whole = []

    def noted(path):
        read_whole.append(path)
        return decompressed(path)

    for module in (cache, extxyz):
        monkeypatch.setattr(module, "decompressed", noted)
    source = S2efChunk(chunk)
    assert [source[index].energy for index in (2, 0)] == [s.energy for s in source][::-2]
    assert read_whole.count(chunk) == 1


def test_a_chunk_that_is_replaced_is_read_anew(chunk, tmp_path, make_water):
    assert open_source(chunk)[2].identifier == "0.extxyz.xz#2"
    write_chunk(tmp_path, 0, [make_water(5)], [-2000.0])
    source = open_source(chunk)
    (structure,) = source
    assert source[0].energy == structure.energy
    assert structure.energy == pytest.approx(make_water(5).get_potential_energy() + 2000)


def test_a_folder_of_chunks(tmp_path, make_water):
    for number in range(11):
        write_chunk(tmp_path, number, [make_water(number)], None)
    source = open_source(tmp_path)
    assert source.energy_reference == "total"
    assert source[10].energy == pytest.approx(make_water(10).get_potential_energy(), abs=1e-7)


def test_an_uncompressed_chunk(tmp_path, make_water):
    write_chunk(tmp_path, 0, [make_water()], None)
    content = lzma.decompress((tmp_path / "0.extxyz.xz").read_bytes())
    (tmp_path / "0.extxyz").write_bytes(content)
    (tmp_path / "0.extxyz.xz").unlink()
    assert len(open_source(tmp_path)[0]) == 3


def test_chunks_with_and_without_references_are_not_mixed(tmp_path, make_water):
    write_chunk(tmp_path, 0, [make_water()], [-2000.0])
    write_chunk(tmp_path, 1, [make_water()], None)
    with pytest.raises(MlipError, match=r"count from different zeros: 0\.extxyz\.xz has ref"):
        open_source(tmp_path)
    total = open_source(tmp_path, SourceSettings(energy_reference="total"))
    assert total[0].energy == total[1].energy


def test_shared_oc20(shared):
    path = shared / "data" / "oc20" / "0.extxyz.xz"
    source = open_source(path.parent, SourceSettings(format="s2ef"))
    frames = read(path, ":40", format="extxyz")
    assert len(source) == 600
    assert source.energy_reference == "total"
    assert source.trajectory(19) == "1000100" != source.trajectory(20)
    for structure, frame in zip(source, frames, strict=False):
        assert structure.energy == frame.calc.results["energy"]
        np.testing.assert_array_equal(structure.forces, frame.calc.results["forces"])
        np.testing.assert_array_equal(structure.positions, frame.positions)
        np.testing.assert_array_equal(structure.tags, frame.arrays["tags"])
        assert set(np.flatnonzero(structure.fixed)) == set(frame.constraints[0].index)
    held = structure.fixed
    assert np.abs(structure.forces[held]).max() > 0
