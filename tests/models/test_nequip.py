"""Size, options and configuration of NequIP."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.cli.build import count_parameters
from mlip.errors import MlipError
from mlip.models.nequip import NequIP, NequIPConfig
from tests.support.potentials import molecule, nequip_config, outputs, potential_of


def abstract(**options):
    """The model's shapes, without computing a weight."""
    config = NequIPConfig(**({"elements": (1, 6, 7, 8)} | options))
    return nnx.eval_shape(lambda: NequIP(config, rngs=nnx.Rngs(0), dtype=jnp.float32))


def shapes(module):
    return [weight.shape for weight in module.weights]


def test_number_of_parameters_of_a_universal_potential():
    """Koker et al., arXiv:2508.16067: 128x0e+64x1o+32x2e+32x3o, 89 elements, 708 thousand."""
    model = abstract(
        elements=tuple(range(1, 90)),
        channels=(128, 64, 32, 32),
        lmax=3,
        embedding="one_hot",
        self_interaction="shared",
        layer_norm=True,
    )
    assert count_parameters(model) == 707_569


def test_shapes_of_a_layer_between_others():
    layer = abstract(channels=(5, 3, 2), num_layers=3, radial_mlp=(7,)).layers[1]
    gated = 5 + 3 + 2
    assert shapes(layer.linear_in) == [(5, 5), (3, 3), (2, 2)]
    # Couplings that end in 0: from 0, 1, 2; in 1: 0, 1, 1, 2; in 2: 0, 1, 2, 2.
    assert shapes(layer.linear_out) == [(10, gated), (13, 3), (12, 2)]
    assert shapes(layer.radial_mlp) == [(8, 7), (7, 35)]
    assert shapes(layer.self_interaction) == [(5, 4, gated), (3, 4, 3), (2, 4, 2)]


def test_first_layer_starts_from_scalars_and_last_ends_in_them():
    first, last = abstract(channels=(5, 3), lmax=1, num_layers=2).layers
    assert shapes(first.self_interaction) == [(5, 4, 8)]
    assert shapes(first.linear_out) == [(5, 8), (5, 3)]
    assert shapes(last.linear_out) == [(8, 5)]
    assert shapes(last.self_interaction) == [(5, 4, 5)]


def test_one_number_of_channels_stands_for_all_degrees():
    assert count_parameters(abstract(channels=6)) == count_parameters(abstract(channels=[6, 6, 6]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (4, 8, 8)}, "none is above the one before"),
        ({"channels": (4, 4)}, "does not fit lmax=2; expected one number, or 3"),
        ({"channels": 0}, "channels"),
        ({"hidden_lmax": 1}, "hidden_lmax"),
        ({"convolution": {"name": "symmetric_contraction"}}, "cannot be used as convolution"),
    ],
)
def test_unknown_or_impossible_options_are_refused(options, message):
    with pytest.raises(MlipError, match=message):
        NequIPConfig(elements=(1,), **options)


def test_auto_is_told_of_every_convolution():
    config = nequip_config(channels=(3, 2, 2), lmax=2)
    used = [
        (one.input_lmax, one.harmonics_lmax, one.output_lmax, group.stop - group.start, "atoms")
        for layer in abstract(**config.model_dump()).layers
        for one, group in zip(layer.convolution.convolutions, layer.convolution.groups, strict=True)
    ]
    assert used == config.operator_shapes()["convolution"]


def test_scale_and_shift_of_the_elements_start_from_the_global_ones():
    small = {"channels": 2, "lmax": 0, "num_layers": 1}
    alike, own = (
        potential_of(nequip_config(**small, scale_shift=choice)) for choice in ("global", "element")
    )
    before = outputs(alike, [molecule()])[0]
    np.testing.assert_allclose(outputs(own, [molecule()])[0].forces, before.forces, atol=1e-12)
    model = own.model
    assert "shift" not in nnx.to_flat_state(nnx.state(alike.model, nnx.Param))
    model.shift[...] = model.shift[...] + jnp.asarray([0.0, 1.0, 0.0])  # of carbon
    changed = outputs(own.with_state(nnx.state(model)), [molecule()])[0]
    expected = before.node_energy + (molecule().numbers == 6)
    np.testing.assert_allclose(changed.node_energy, expected, atol=1e-12)
