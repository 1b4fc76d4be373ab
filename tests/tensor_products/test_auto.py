"""Choosing the fastest operator of a family."""

import numpy as np
import pytest
from flax import nnx

from mlip import runtime
from mlip.errors import MlipError
from mlip.models import build_model, choose_operators
from mlip.models.mace import MACEConfig
from mlip.tensor_products.auto import (
    Choice,
    ConvolutionShape,
    GraphSize,
    PowerShape,
    choose_convolution,
    choose_power,
)
from mlip.tensor_products.build import build_convolution, build_power, family_members
from mlip.tensor_products.registry import OPERATORS, AutoSettings
from tests.support.potentials import mace_config

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
    again, silent = choose_operators(chosen, SIZE, "float64")
    assert again == chosen
    assert silent == []


def weight_shapes(module):
    state = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return tuple((path, leaf.shape) for path, leaf in state)


def test_members_of_a_family_take_the_same_weights():
    """Otherwise a choice between them would change the model."""
    degrees = (1, 2, 2)
    for family in {operator.family for operator in OPERATORS.values() if operator.family}:
        built = [
            build_convolution(operator.settings(), *degrees)
            for operator in family_members(family, "convolution")
        ]
        shapes = {(one.num_weights, one.output_multiplicity, one.exact) for one in built}
        assert len(shapes) == 1, family
        powers = [
            build_power(operator.settings(), 1, 1, 2, 2, 2, rngs=nnx.Rngs(0), dtype=np.float64)
            for operator in family_members(family, "product")
        ]
        assert len({weight_shapes(power) for power in powers}) == 1, family


def test_an_unknown_family_is_refused():
    with pytest.raises(MlipError, match="No convolution of family gant is known; expected one of"):
        choose("gant")


def test_auto_itself_builds_nothing():
    with pytest.raises(MlipError, match="'auto' has not been replaced"):
        build_model(
            mace_config(product=AutoSettings()), rngs=nnx.Rngs(0), dtype=np.dtype("float64")
        )
