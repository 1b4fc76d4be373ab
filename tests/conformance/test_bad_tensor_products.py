"""Operators that cannot be built or called say so in one sentence."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mlip.cli.compose import compose
from mlip.cli.schema import SCHEMAS
from mlip.cli.validate import validate
from mlip.errors import MlipError
from mlip.tensor_products.build import (
    build_convolution,
    build_power,
    build_product,
    family_members,
)
from mlip.tensor_products.registry import OPERATORS
from mlip.tensor_products.sphere import PointTransform
from tests.support.tensor_products import (
    MASK,
    cases,
    edges,
    graph,
    the_convolution,
    the_product,
)

products = cases("product", [1])
convolutions = cases("convolution", [1])


def sentence(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def built_roles(name):
    """How an operator is built in each role that has three degrees, from its default settings."""
    builders = {"product": build_product, "convolution": build_convolution}
    return {
        role: partial(build, OPERATORS[name].settings())
        for role, build in builders.items()
        if getattr(OPERATORS[name], role) is not None
    }


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("name", OPERATORS)
def test_negative_degree(name, place):
    degrees = [1, 1, 1]
    degrees[place] = -1
    for build in built_roles(name).values():
        with pytest.raises(MlipError) as error:
            build(*degrees)
        sentence(error, "a degree of -1 was asked for; expected 0 or more")


@pytest.mark.parametrize("name", OPERATORS)
def test_degree_that_the_factors_do_not_couple_to(name):
    """It is refused, but for the operator that gives it; up to there no degree is empty."""
    for role, build in built_roles(name).items():
        any_output = getattr(build(1, 1, 1), "any_output", False)
        for degrees, highest in (((1, 1, 3), 2), ((0, 2, 4), 2), ((2, 1, 4), 3)):
            if any_output:
                assert build(*degrees).output_multiplicity == (1,) * (degrees[2] + 1)
                continue
            with pytest.raises(MlipError) as error:
                build(*degrees)
            sentence(
                error,
                f"a result of degree {degrees[2]} was asked for",
                f"up to {degrees[0]} and {degrees[1]} couple to degree {highest} at most.",
            )
        last = build(1, 2, 3)
        copies = last.copies() if role == "product" else last.output_multiplicity
        assert len(copies) == 4
        assert all(copies)


WITH_RANK = [name for name, one in OPERATORS.items() if "rank" in one.settings.model_fields]


@pytest.mark.parametrize("rank", [0, -3])
@pytest.mark.parametrize("name", WITH_RANK)
def test_rank_below_one(name, rank):
    with pytest.raises(MlipError, match=f"rank of {rank} was asked for; expected"):
        OPERATORS[name].settings(rank=rank)


@products
def test_factors_that_do_not_fit(case):
    product = the_product(case)
    four, nine = jnp.ones((2, 4, 3)), jnp.ones((2, 9, 3))
    for x, y, what in ((nine, four, "first"), (four, nine, "second")):
        with pytest.raises(MlipError) as error:
            product(x, y)
        sentence(error, f"the {what} factor has 9 components; expected 4 for degrees 0 to 1")
    wrong = {
        "the second factor has 2 channels; expected 3, as the first, or 1": jnp.ones((2, 4, 2)),
        "a batch of shape (2,), the second one of shape (3,)": jnp.ones((3, 4, 3)),
        "an array of shape (4,); expected (..., 4, channels)": jnp.ones(4),
    }
    for part, y in wrong.items():
        with pytest.raises(MlipError) as error:
            product(four, y)
        sentence(error, part)
    with pytest.raises(MlipError) as error:
        product(jnp.ones(4), jnp.ones(4))
    sentence(error, "the first factor is an array of shape (4,)")


@products
def test_couplings_that_are_not_formed(case):
    product = the_product(case)
    missing = {"even", "odd", "mixed"} - set(product.paths)
    for paths in missing:
        for call in (
            product.copies,
            product.multiplies,
            lambda p: product(jnp.ones((4, 1)), jnp.ones((4, 1)), p),
        ):
            with pytest.raises(MlipError) as error:
                call(paths)
            others = {"mixed": "path_shared with paths=all"}
            assert str(error.value) == (
                f"{type(product).__name__} forms {' and '.join(product.paths)} couplings, not "
                f"{paths} ones; ask for {product.paths[0]} ones, or take "
                f"{others.get(paths, 'clebsch_gordan_dense')}, which forms {paths} ones."
            )


@pytest.mark.parametrize(
    ("name", "options", "sets"),
    [("clebsch_gordan_dense", {}, {"even", "odd"}), ("path_shared", {"paths": "all"}, {"mixed"})],
)
def test_operators_to_take_for_couplings_that_another_does_not_form(name, options, sets):
    """What the sentence above promises of them."""
    assert set(build_product(OPERATORS[name].settings(**options), 1, 1, 1).paths) == sets


@convolutions
def test_edges_that_do_not_fit(case):
    convolution = the_convolution(case)
    features, _, weights = edges(1, convolution.num_weights)
    harmonics = [jnp.ones(MASK.shape)] * 4
    wrong = {
        "the sender has 3 components; expected 4": (features[:, :3], harmonics, weights),
        "the edge has 9 components; expected 4": (features, [harmonics[0]] * 9, weights),
        "for each of 4 channels": (features, harmonics, np.concatenate([weights] * 2, axis=-1)),
    }
    one_row = [y[:1] for y in harmonics]
    more = {
        f"{len(features) - 1},); expected ({len(features)},)": (features[1:], harmonics, weights),
        "an array of shape (4,); expected (..., 4, channels)": (
            features[0, :, 0],
            harmonics,
            weights,
        ),
        f"harmonic number 0 has shape (1, {MASK.shape[1]})": (features, one_row, weights),
        "has weights of shape ()": (features, harmonics, weights[0, 0]),
    }
    for part, arguments in (wrong | more).items():
        with pytest.raises(MlipError) as error:
            convolution(*arguments, graph())
        sentence(error, part)
        if part in more:
            continue
        on_edges = np.broadcast_to(arguments[0][:1, None], (*MASK.shape, *arguments[0].shape[1:]))
        with pytest.raises(MlipError) as error:
            convolution.on_edges(on_edges, *arguments[1:])
        sentence(error, part)


@pytest.mark.parametrize("role", ["convolution", "product"])
def test_operators_that_cannot_play_a_role(role):
    able = [name for name, operator in OPERATORS.items() if role in operator.roles]
    for name in OPERATORS.keys() - able:
        with pytest.raises(MlipError) as error:
            train_settings(f"tensor_product@model.{role}={name}")
        sentence(error, f"{name} cannot be used as {role}", *able)


@pytest.mark.parametrize("role", ["convolution", "product"])
def test_unknown_name(role):
    with pytest.raises(MlipError) as error:
        train_settings(f"tensor_product@model.{role}=gaunt_grit")
    sentence(error, "gaunt_grit", "gaunt_grid")
    with pytest.raises(MlipError) as error:
        train_settings(f"model.{role}.name=gaunt_grit")
    sentence(error, "gaunt_grit", "gaunt_grid")


def test_unknown_family():
    with pytest.raises(MlipError) as error:
        family_members("gaunt_grit", "product")
    sentence(error, "No product of family gaunt_grit is known", "expected clebsch_gordan or gaunt.")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["tensor_product@model.convolution=cp", "model.lmax=5"], ["degree 5", "reach degree 4"]),
        (["tensor_product@model.product=cp", "model.lmax=6"], ["degree 6", "reach degree 4"]),
        (
            ["tensor_product@model.convolution=so2", "model.lmax=0", "model.hidden_lmax=0"],
            [],
        ),
        (
            ["tensor_product@model.convolution=so2", "model.lmax=0", "model.hidden_lmax=1"],
            ["harmonics of degree 1", "raise the degree of the harmonics (lmax)"],
        ),
        (
            ["tensor_product@model.product=gaunt_grid", "model.lmax=1", "model.hidden_lmax=2"],
            ["hidden_lmax=2", "ends at degree lmax=1"],
        ),
        (["model.lmax=1", "model.hidden_lmax=2"], ["hidden_lmax=2", "ends at degree lmax=1"]),
        (["model.lmax=1", "model.hidden_lmax=1"], []),
        (
            ["tensor_product@model.convolution=so2", "model.convolution.mmax=4"],
            ["mmax=4", "degrees 1 and 3 have no orders above 1", "leave mmax out"],
        ),
        (["tensor_product@model.convolution=so2", "model.convolution.mmax=1"], []),
        (
            ["tensor_product@model.convolution=cp", "model.convolution.rank=100"],
            ["a rank of 100", "products are exact", "ask for fewer, or for rank exact"],
        ),
        (["tensor_product@model.convolution=cp", "model.convolution.rank=20"], []),
        (["tensor_product@model.convolution=cp_paper"], []),
        (
            ["tensor_product@model.product=gaunt_poisson", "model.correlation=2"],
            ["correlation=2", "three and more factors", "gaunt_quadrature does the same"],
        ),
        (["tensor_product@model.product=gaunt_poisson", "model.correlation=3"], []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_model_refuses_operators_that_it_cannot_build_before_data_are_loaded(changes, parts):
    """And no others."""
    if not parts:
        train_settings(*changes)
        return
    with pytest.raises(MlipError) as error:
        train_settings(*changes)
    sentence(error, *parts)


def powers():
    """Every many-body product, as it is built from its settings."""
    return [name for name, operator in OPERATORS.items() if "product" in operator.roles]


def a_power(name, lmax=1, hidden_lmax=1, correlation=2):
    return build_power(
        OPERATORS[name].settings(),
        lmax,
        hidden_lmax,
        correlation,
        2,
        3,
        rngs=nnx.Rngs(0),
        dtype=np.dtype("float64"),
    )


@pytest.mark.parametrize("name", powers())
def test_sizes_that_a_power_cannot_have(name):
    wrong = {
        "a correlation of 1 to 4": [{"correlation": 0}, {"correlation": 5}],
        "of degree -1 was asked for; expected 0 or more": [{"lmax": -1}, {"hidden_lmax": -1}],
        "hidden_lmax=5 was asked for, but its first order": [{"hidden_lmax": 5}],
    }
    for part, every in wrong.items():
        for sizes in every:
            with pytest.raises(MlipError) as error:
                a_power(name, **sizes)
            sentence(error, part)


@pytest.mark.parametrize("name", powers())
@pytest.mark.parametrize("shape", [(4, 9, 3), (4, 1, 3), (4, 4, 2)], ids=str)
def test_features_that_do_not_fit_a_power(name, shape):
    with pytest.raises(MlipError) as error:
        a_power(name)(jnp.ones(shape), jnp.zeros(4, int))
    sentence(error, f"of shape {shape}; expected (atoms, 4, 3) for degrees 0 to 1")


def test_points_that_there_are_not():
    with pytest.raises(MlipError, match="no Lebedev rule exact to degree 132"):
        PointTransform(100, 32)


def train_settings(*overrides):
    return validate(SCHEMAS["train"], compose("train", ["experiment=quickstart", *overrides]))
