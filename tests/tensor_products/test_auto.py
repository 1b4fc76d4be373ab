"""Choosing the fastest operator of a family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip import runtime
from mlip.errors import MlipError
from mlip.models import build_model, choose_operators
from mlip.models.mace import MACEConfig
from mlip.nn.irreps import dim
from mlip.tensor_products import auto
from mlip.tensor_products.auto import (
    Choice,
    ConvolutionShape,
    GraphSize,
    PowerShape,
    choose_convolution,
    choose_power,
)
from mlip.tensor_products.build import build_convolution, build_power, families, family_members
from mlip.tensor_products.registry import OPERATORS, AutoSettings
from tests.support.potentials import mace_config
from tests.tolerances import FLOAT64

SIZE = GraphSize(nodes=6, blocks=8, width=2)


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("MLIP_COMPILATION_CACHE", str(tmp_path))
    return tmp_path


def choose(family="clebsch_gordan", size=SIZE):
    return choose_convolution(family, [ConvolutionShape(1, 1, 1, 2)], size, "float64")


def test_takes_the_fastest_and_remembers_the_times(memory, monkeypatch):
    first = choose()
    names = {operator.name for operator in family_members("clebsch_gordan", "convolution")}
    assert set(first.milliseconds) == names
    assert first.settings.name == min(first.milliseconds, key=first.milliseconds.get)
    assert "measured now" in str(first)
    second = choose()
    assert second == first._replace(remembered=True)
    assert "as measured before" in str(second)
    assert not choose(size=SIZE._replace(nodes=7)).remembered
    monkeypatch.setattr(runtime, "num_threads", lambda: 77)
    assert not choose().remembered


def test_a_file_cut_short_is_measured_again(memory):
    before = choose()
    (file,) = memory.glob("operators-*.json")
    file.write_text(file.read_text()[:9])
    after = choose()
    assert not after.remembered
    assert set(after.milliseconds) == set(before.milliseconds)
    assert choose().remembered


def test_nothing_is_timed_where_there_is_no_choice(memory):
    choice = choose_power("symmetric_contraction", [PowerShape(1, 1, 2, 3, 2)], SIZE, "float64")
    assert choice.settings.name == "symmetric_contraction"
    assert choice.milliseconds == {}
    assert str(choice) == (
        "symmetric_contraction, the only operator of family symmetric_contraction"
    )
    assert not list(memory.iterdir())


def test_says_what_it_chose_and_why():
    settings = OPERATORS["channelwise"].settings()
    times = {"channelwise": 1.0, "clebsch_gordan_dense": 3.0}
    text = str(Choice(settings, times, "clebsch_gordan", remembered=False))
    assert text.startswith("channelwise, the fastest of family clebsch_gordan (channelwise 1.00 ms")
    assert "clebsch_gordan_dense 3.00 ms" in text


def test_a_model_gets_real_operators():
    config = mace_config(convolution=AutoSettings(), product=AutoSettings())
    chosen, sentences = choose_operators(config, SIZE, "float64")
    assert isinstance(chosen, MACEConfig)
    assert chosen.convolution.name in {
        operator.name for operator in family_members("clebsch_gordan", "convolution")
    }
    assert chosen.product.name == "symmetric_contraction"
    assert [sentence.split(":")[0] for sentence in sentences] == ["convolution", "product"]
    assert "model.product.family can be clebsch_gordan or gaunt, with several" in sentences[1]
    again, silent = choose_operators(chosen, SIZE, "float64")
    assert again == chosen
    assert silent == []


@pytest.mark.parametrize("family", families("convolution"))
def test_convolutions_of_a_family_are_the_same_map(family):
    """Of the same features, harmonics and weights; otherwise a choice would change the model."""
    rng = np.random.default_rng(0)
    for degrees in [(1, 2, 2), (0, 1, 1)]:
        built = [
            build_convolution(operator.settings(), *degrees)
            for operator in family_members(family, "convolution")
        ]
        assert len({(one.num_weights, one.output_multiplicity, one.exact) for one in built}) == 1
        features = jnp.asarray(rng.normal(size=(3, 2, dim(degrees[0]), 2)))
        harmonics = [jnp.asarray(y) for y in rng.normal(size=(dim(degrees[1]), 3, 2))]
        weights = jnp.asarray(rng.normal(size=(3, 2, 2 * built[0].num_weights)))
        first, *others = (jax.jit(one.on_edges)(features, harmonics, weights) for one in built)
        for other in others:
            same(other, first)


@pytest.mark.parametrize("family", families("product"))
def test_powers_of_a_family_are_the_same_map(family):
    members = family_members(family, "product")
    features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)))

    def power(operator):
        layer = build_power(operator.settings(), 1, 1, 3, 2, 2, rngs=nnx.Rngs(0), dtype=np.float64)
        return nnx.jit(layer)(features, jnp.asarray([0, 1, 0]))

    if len(members) > 1:
        first, *others = (power(operator) for operator in members)
        for other in others:
            same([other], [first])


def same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * FLOAT64.relative)


def test_one_program_under_two_names_is_timed_once(monkeypatch):
    """With few degrees the Gaunt convolutions on points and on a grid are both sums of moments."""
    timed = []
    in_turn = auto._time_in_turn
    monkeypatch.setattr(auto, "_time_in_turn", lambda them: timed.extend(them) or in_turn(them))
    choice = choose("gaunt")
    assert timed == ["gaunt_fourier", "gaunt_quadrature"]
    times = choice.milliseconds
    assert times["gaunt_grid"] == times["gaunt_quadrature"]
    assert "gaunt_quadrature = gaunt_grid" in str(choice)


def test_members_that_cannot_give_the_degrees_are_left_out():
    shape = ConvolutionShape(0, 5, 5, 1)
    choice = choose_convolution("path_shared", [shape], SIZE, "float64")
    assert set(choice.milliseconds) == {"path_shared"}
    assert choice.left_out == ("cp",)
    assert str(choice).endswith("), without cp, which cannot give the degrees")


def test_what_is_timed_takes_weights_and_gives_their_derivatives(monkeypatch):
    """As in a training: with weights that the compiler knows, operators would do less."""
    programs = []
    compiled = auto._compiled
    monkeypatch.setattr(auto, "_compiled", lambda one: programs.append(one) or compiled(one))
    names = choose().milliseconds
    assert len(programs) == len(names)
    num_weights = build_convolution(OPERATORS["channelwise"].settings(), 1, 1, 1).num_weights
    shape = (SIZE.blocks, SIZE.width, 2 * num_weights)
    for program in programs:
        _, _, (weights,) = program.arguments
        assert weights.shape == program.lowered.out_info[2][0].shape == shape
        assert np.unique(weights).size == weights.size
        # None of the arguments has become a constant of the compiled program.
        given = jax.tree.leaves(program.lowered.args_info)
        assert [one.shape for one in given] == [(6, 4, 2), (8, 2, 4), shape]


def test_times_of_another_version_do_not_count(monkeypatch):
    choose()
    monkeypatch.setattr(auto, "version", lambda package: "0.0.0")
    assert not choose().remembered


def test_an_unknown_family_is_refused():
    with pytest.raises(MlipError, match=r"family gant is known; .* Did you mean gaunt\?"):
        choose("gant")


@pytest.mark.parametrize("place", ["convolution", "product"])
@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("so2", "No product of family so2 is known; expected clebsch_gordan or gaunt."),
        ("symmetric_contraction", "No convolution of family symmetric_contraction is known"),
    ],
)
def test_a_family_that_does_not_fit_is_refused_with_the_config(place, family, expected):
    if place in expected:
        with pytest.raises(MlipError, match=expected):
            mace_config(**{place: {"name": "auto", "family": family}})
    else:
        mace_config(**{place: {"name": "auto", "family": family}})


def test_auto_itself_builds_nothing():
    with pytest.raises(MlipError, match="'auto' has not been replaced"):
        build_model(
            mace_config(product=AutoSettings()), rngs=nnx.Rngs(0), dtype=np.dtype("float64")
        )
