import pickle

import numpy as np
import pytest

from mlip.data.sources.restricted_pickle import graph_fields, loads
from tests.data.sources.written import Call, FakeTorch


@pytest.fixture
def torch(monkeypatch) -> FakeTorch:
    return FakeTorch(monkeypatch)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "b1"])
def test_a_tensor_of_any_type(torch, dtype):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    found = loads(pickle.dumps(torch.tensor(array)), "x").numpy()
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("window", [np.s_[2:7, 1:4], np.s_[::3, ::2], np.s_[:0], np.s_[4, 5]])
@pytest.mark.parametrize("transposed", [False, True])
def test_views_keep_offset_and_strides(torch, window, transposed):
    base = np.zeros((10, 6), np.float32)
    base[...] = np.arange(60).reshape(10, 6)
    view = base[window][...].T if transposed else base[window][...]
    found = loads(pickle.dumps(torch.tensor(view)), "x").numpy()
    np.testing.assert_array_equal(found, view)


@pytest.mark.parametrize("generation", [1, 2])
def test_both_generations_of_graphs(torch, generation):
    data = torch.graph(generation, pos=np.ones((2, 3)), energy=1.5)
    fields = graph_fields(loads(data, "x"))
    assert fields["energy"] == 1.5
    assert fields["pos"].shape == (2, 3)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "value", [np.float64(2.5), np.int32(7), np.arange(6.0).reshape(2, 3), np.eye(3)[:, :2].T]
)
def test_numbers_and_arrays_of_numpy(value, protocol):
    np.testing.assert_array_equal(loads(pickle.dumps(value, protocol), "x").numpy(), value)


def test_memory_outside_of_a_tensor_is_out_of_reach(torch):
    storage = torch.storage(np.arange(6.0))
    for offset, shape, strides in [(1, (2, 3), (3, 1)), (-1, (2,), (1,)), (5, (2,), (-6,)),
                                   (0, (7,), (1,)), (0, (2, 3), (4, 1))]:  # fmt: skip
        stored = Call(torch.load, storage)
        tensor = pickle.dumps(Call(torch.rebuild, stored, offset, shape, strides, False, None))
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            loads(tensor, "x").numpy()


def test_a_pickle_cannot_change_the_stand_ins():
    # BUILD with a state for slots sets attributes of whatever lies on the stack: here of a class.
    change = b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\nN}X\x01\x00\x00\x00aK\x01s\x86b."
    with pytest.raises(pickle.UnpicklingError, match="sets a of a class"):
        loads(change, "x")
