"""The timed programs compute what their names say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.benchmark.grid import CONVOLUTION_CHANNELS, Cell
from mlip.benchmark.molecules import molecules, num_edges
from mlip.benchmark.programs import build_program
from mlip.errors import MlipError
from mlip.nn.irreps import clebsch_gordan
from mlip.tensor_products.channelwise import ChannelwiseSettings
from mlip.tensor_products.clebsch_gordan import ClebschGordanDense, ClebschGordanDenseSettings
from mlip.tensor_products.so2 import SO2Settings
from tests.tolerances import FLOAT64

DENSE = ClebschGordanDenseSettings()


def cell(task, couplings="even", degree=2, mode="forward"):
    return Cell(task, couplings, degree, 4, 2, "float64", mode)


def run(program):
    return program.function(*program.arguments())


@pytest.mark.parametrize(("degree", "result"), [(1, 2), (2, 2)])
def test_one_to_one_is_one_coupling(degree, result):
    program = build_program(DENSE, cell("one_to_one", degree=degree))
    x, y = program.inputs
    assert x.shape == (4, 2 * degree + 1, 2)
    block = np.sqrt(2 * result + 1) * clebsch_gordan(degree, degree, result)
    (part,) = run(program)
    expected = np.einsum("nic,njc,ijk->nkc", x, y, block)
    np.testing.assert_allclose(part, expected, atol=FLOAT64.relative)
    assert program.output_size == 2 * result + 1
    assert program.expressivity() == 1


@pytest.mark.parametrize(
    ("couplings", "sizes"), [("even", [1, 5, 9]), ("all", [1, 5, 9, 3, 7])], ids=["even", "all"]
)
def test_one_to_all_keeps_what_is_reached(couplings, sizes):
    program = build_program(DENSE, cell("one_to_all", couplings))
    assert [part.shape[1] for part in run(program)] == sizes
    assert program.expressivity() == len(sizes)


@pytest.mark.parametrize(("task", "output_lmax"), [("all_to_all", 4), ("all_to_lmax", 2)])
def test_all_degrees_are_the_product_itself(task, output_lmax):
    program = build_program(DENSE, cell(task))
    product = ClebschGordanDense(2, 2, output_lmax)
    expected = product(*program.inputs)
    for part, other in zip(run(program), expected, strict=True):
        np.testing.assert_allclose(part, other)
    copies = product.copies()
    assert program.output_size == sum((2 * l + 1) * n for l, n in enumerate(copies))
    assert program.multiplies == product.multiplies()
    assert program.expressivity() == sum(copies)


def test_gradient_is_value_and_vector_jacobian_product():
    forward = build_program(DENSE, cell("all_to_lmax", degree=1))
    gradient = build_program(DENSE, cell("all_to_lmax", degree=1, mode="gradient"))
    value, derivatives = run(gradient)

    def total(x, y):
        return sum(jnp.sum(part) for part in forward.function((x, y), None, []))

    for part, other in zip(value, run(forward), strict=True):
        np.testing.assert_allclose(part, other)
    for part, other in zip(
        derivatives, jax.grad(total, argnums=(0, 1))(*forward.inputs), strict=True
    ):
        np.testing.assert_allclose(part, other, atol=FLOAT64.relative)


def test_molecules_are_a_batch_like_those_of_a_training():
    graph = molecules("float32")
    assert graph.num_nodes == 135
    assert num_edges() == graph.edge_mask.sum() == 2336
    assert graph.positions.dtype == np.float32


def test_convolutions_take_features_harmonics_and_weights_of_the_molecules():
    sizes = (3, num_edges(), CONVOLUTION_CHANNELS)
    case = Cell("mace_convolution", "own", *sizes, "float64", "gradient")
    programs = [build_program(settings, case) for settings in (DENSE, ChannelwiseSettings())]
    plain, fused = (jax.eval_shape(program.function, *program.shapes) for program in programs)
    assert [part.shape for part in plain[0]] == [part.shape for part in fused[0]]
    features, harmonics, weights = plain[1]
    blocks, width = programs[0].graph.senders.shape
    assert features.shape == (135, 4, CONVOLUTION_CHANNELS)
    assert [one.shape for one in harmonics] == [(blocks, width)] * 16
    assert weights.shape == (blocks, width, programs[0].weights * CONVOLUTION_CHANNELS)
    assert programs[1].multiplies < programs[0].multiplies


def test_what_an_operator_cannot_do_is_said():
    with pytest.raises(MlipError, match="cannot be used as a product"):
        build_program(SO2Settings(), cell("all_to_all"))
