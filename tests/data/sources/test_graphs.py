import pickle

import numpy as np
import pytest

from mlip.data.sources.graphs import GraphListSource, GraphLmdbSource
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.errors import MlipError
from tests.data.sources.written import FakeTorch, graph_fields, write_lmdb


@pytest.fixture
def torch(monkeypatch) -> FakeTorch:
    return FakeTorch(monkeypatch)


@pytest.mark.parametrize(("generation", "old"), [(1, True), (2, True), (2, False)])
def test_every_field_of_a_graph(tmp_path, torch, generation, old):
    fields = graph_fields(0, old)
    path = write_lmdb(tmp_path / "a.lmdb", {b"0": torch.graph(generation, **fields)})
    structure = open_source(path)[0]
    np.testing.assert_array_equal(structure.numbers, [29, 29, 29, 29])
    assert structure.numbers.dtype == np.int32
    np.testing.assert_array_equal(structure.positions, fields["pos"].astype(float))
    np.testing.assert_array_equal(structure.cell, 5 * np.eye(3))
    assert structure.pbc.all()
    assert structure.energy == -5.25
    np.testing.assert_array_equal(structure.forces, fields["force" if old else "forces"])
    np.testing.assert_array_equal(structure.fixed, [True, False, False, False])
    np.testing.assert_array_equal(structure.tags, [0, 1, 2, 0])
    assert structure.identifier == "a.lmdb#0"


def test_length_sizes_and_trajectories(tmp_path, torch):
    entries = {b"%d" % i: torch.graph(**graph_fields(i)) for i in range(11)}
    with_length = entries | {b"length": pickle.dumps(11)}
    for name, content in (("a.lmdb", entries), ("b.lmdb", with_length)):
        source = GraphLmdbSource(write_lmdb(tmp_path / name, content))
        assert len(source) == 11
        np.testing.assert_array_equal(source.sizes(), 4 + np.arange(11))
        assert source.num_atoms(10) == 14
        assert source.trajectory(2) == source.trajectory(3) != source.trajectory(4)


def test_a_folder_of_shards_in_the_order_of_numbers(tmp_path, torch):
    for shard in range(11):
        graph = torch.graph(**graph_fields(shard))
        write_lmdb(tmp_path / f"data.{shard:04d}.lmdb", {b"0": graph})
    source = open_source(tmp_path)
    assert [structure.energy for structure in source] == [-5.25 - i for i in range(11)]
    assert source.identifier(10) == "data.0010.lmdb#0"
    assert pickle.loads(pickle.dumps(source))[7].energy == -12.25


def test_what_energies_count_from(tmp_path, torch):
    plain = write_lmdb(tmp_path / "a.lmdb", {b"0": torch.graph(**graph_fields())})
    oc22 = write_lmdb(tmp_path / "b.lmdb", {b"0": torch.graph(**graph_fields(), oc22=1)})
    referenced = SourceSettings(energy_reference="referenced")
    assert open_source(plain).energy_reference == "unstated"
    assert open_source(plain, referenced).energy_reference == "referenced"
    assert open_source(oc22).energy_reference == "total"
    damaged = {b"0": b"", b"1": torch.graph(**graph_fields(), oc22=1)}
    assert open_source(write_lmdb(tmp_path / "c.lmdb", damaged)).energy_reference == "total"
    with pytest.raises(
        MlipError, match="holds total energies, which cannot be converted to referenced"
    ):
        open_source(oc22, referenced)


def test_a_molecule_without_cell_and_a_pickled_list(tmp_path, torch):
    fields = graph_fields(1, old=True)
    del fields["cell"], fields["fixed"], fields["natoms"]
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([torch.graph_object(**fields, pbc=np.zeros((1, 3), bool))]))
    source = open_source(path)
    assert isinstance(source, GraphListSource)
    assert source.num_atoms(0) == len(source[0]) == 5
    assert not source[0].pbc.any()
    assert source[0].fixed is None
    keys = LabelKeys(energy=None, forces=None)
    assert open_source(path, SourceSettings(keys=keys))[0].energy is None


@pytest.mark.parametrize(
    ("name", "energy", "force", "atoms"),
    [
        ("oc22_pickle16_train", -566.62288864, 0.07122127, 109),
        ("ani1x_pickle16_train", -7222.384567385502, -2.93182302, 12),
        ("trans1x_pickle16_train", -7762.637212807026, 0.65436244, 11),
    ],
)
def test_shared_graphs(shared, name, energy, force, atoms):
    source = open_source(shared / "data" / "oc22_pickled" / f"{name}.pkl")
    assert len(source) == 16
    first = source[0]
    assert len(first) == atoms
    assert first.energy == energy
    assert first.forces[0, 0] == pytest.approx(force, abs=1e-7)
    assert source.energy_reference == ("total" if "oc22" in name else "unstated")
    for structure in source:
        assert len(structure) == len(structure.forces)
        net = np.abs(structure.forces.sum(axis=0)).max()
        assert net < 0.1 * np.abs(structure.forces).sum()


def test_relaxed_energies_of_initial_structures(tmp_path, torch):
    """As IS2RE has them: no forces, the energy under a key of its own."""
    fields = graph_fields()
    initial = {key: value for key, value in fields.items() if key not in ("energy", "forces")}
    graph = torch.graph(**initial, y_init=-1.0, y_relaxed=-2.5, pos_relaxed=fields["pos"] + 1.0)
    path = write_lmdb(tmp_path / "a.lmdb", {b"0": graph})
    keys = LabelKeys(energy="y_relaxed", forces=None)
    structure = open_source(path, SourceSettings(keys=keys))[0]
    assert structure.energy == -2.5
    assert structure.forces is None
    np.testing.assert_array_equal(structure.positions, fields["pos"].astype(float))
