"""What every tensor product must obey, in both roles; operators are taken from the registry.

What an approximate operator gets wrong is recorded among the properties of its tests.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mlip.nn.irreps import degree_slice
from mlip.tensor_products.edgewise import each_edge, sum_blocks
from tests.support.derivatives import check_derivatives, check_finite
from tests.support.tensor_products import (
    ALONE,
    MASK,
    NODES,
    RECEIVERS,
    ROTATION,
    SAMPLES,
    Edges,
    beyond_couplings,
    cases,
    convolution_derivatives,
    convolution_program,
    edge_couplings,
    edge_harmonics,
    edge_vectors,
    edges,
    error,
    factors,
    graph,
    mirror,
    product_derivatives,
    product_results,
    rotation,
    senders,
    the_convolution,
    the_product,
)
from tests.tolerances import FLOAT32

BROKEN = 1e-2  # at least, of a symmetry that is not respected
PARITIES = {"even": (0,), "odd": (1,), "mixed": (0, 1)}

products = cases("product", [0, 1, 2, 3, 4, 6], others_at=2)
products_in_both_precisions = cases("product", range(5), others_at=2)
products_to_derive = cases("product", [2], others_at=2)
convolutions = cases("convolution", [0, 1, 2, 3, 4, 6], others_at=2)
convolutions_in_both_precisions = cases("convolution", range(5), others_at=2)
convolutions_on_edges = cases("convolution", [1])
convolutions_to_derive = cases("convolution", [2], others_at=2)


def results(case):
    """Of all couplings and degrees: (couplings, degree, result)."""
    return [
        (p, l, one) for p, parts in product_results(case).items() for l, one in enumerate(parts)
    ]


def turned(part, l, axis=1):
    """Components of degree l along an axis, rotated."""
    block = rotation(l)[degree_slice(l), degree_slice(l)]
    return np.moveaxis(np.tensordot(block, part, (1, axis)), 0, axis)


@products
def test_product_is_bilinear(case, check):
    x, y = (one[:SAMPLES, :, 1] for one in factors(case.degree))
    found = results(case)
    expected = [np.einsum("ni,nj,ijmp->nmp", x, y, one.tensor) for *_, one in found]
    check("bilinearity", error([one.plain for *_, one in found], expected))


@products
def test_product_turns_with_its_factors(case, check):
    found = results(case)
    expected = [turned(one.plain, l) for _, l, one in found]
    rotated = [one.rotated for *_, one in found]
    check("rotation", error(rotated, expected), the_product(case).exact)


@products
def test_product_has_the_parity_it_says(case, check):
    found = results(case)
    sign = {"even": 1, "odd": -1, "mixed": 1}
    expected = [sign[paths] * (-1) ** l * one.plain for paths, l, one in found]
    broken = error([one.mirrored for *_, one in found], expected)
    if "mixed" in the_product(case).paths and case.degree > 0:
        assert broken > BROKEN
    else:
        check("inversion", broken)


@products
def test_product_holds_couplings_only(case, check):
    """Nothing is left of a copy once its multiples of the Clebsch–Gordan blocks are taken away."""
    found = results(case)
    largest = max(np.abs(one.tensor).max(initial=0.0) for *_, one in found)
    rest = [
        np.abs(beyond_couplings(one.tensor, case.degree, l, PARITIES[paths])).max(initial=0.0)
        for paths, l, one in found
    ]
    check("couplings", max(rest) / largest, the_product(case).exact)


@products
def test_product_keeps_the_variance(case):
    """Of independent components of unit variance, on the average over a degree and its copies."""
    assert the_product(case).multiplies(the_product(case).paths[0]) > 0
    for *_, one in results(case):
        if one.tensor.size:
            assert 0.2 < np.mean(np.sum(one.tensor**2, axis=(0, 1))) < 5.0


@products_in_both_precisions
def test_product_in_single_precision(case, record_property):
    single = [one for parts in product_results(case, "float32").values() for one in parts]
    found = error([one.plain for one in single], [one.plain for *_, one in results(case)])
    record_property("rounding", f"{found:.1e}")
    assert found < FLOAT32.relative


@products_to_derive
def test_derivatives_of_the_product(case, check):
    program, inputs = product_derivatives(case)
    parts = program(*inputs)["parts"]
    mapped = [part for paths in the_product(case).paths for part in parts[paths]]
    expected = [one.plain for *_, one in results(case)]
    random = [
        part.reshape(SAMPLES, part.shape[2], part.shape[3] // 2, 2)[..., 1] for part in mapped
    ]
    check("vmap", error(random, expected))
    check_derivatives(program, inputs)
    check_finite(program, np.zeros_like(inputs))


@convolutions_to_derive
def test_derivatives_of_the_convolution(case, check):
    """Edges along the axes and padded ones of no length are among them."""
    program, inputs = convolution_derivatives(case)
    first = inputs._replace(vectors=edge_vectors()[None], weights=inputs.weights * MASK[..., None])
    expected = convolution_program(case)(Edges(*(one[0] for one in first)))
    parts = [part[0] for part in program(*inputs)["parts"]]
    mapped = [part.reshape(one.shape) for part, one in zip(parts, expected, strict=True)]
    check("vmap and padding", error(mapped, expected))
    check_derivatives(program, inputs)
    check_finite(program, inputs._replace(weights=np.zeros_like(inputs.weights)))
    check_finite(program, inputs._replace(features=np.zeros_like(inputs.features)))


def random_edges(case):
    """Edges whose weights differ from channel to channel by a factor, and these factors."""
    convolution = the_convolution(case)
    inputs = edges(case.degree, convolution.num_weights)
    channels = inputs.features.shape[-1]
    factor = np.random.default_rng(2).normal(size=channels)
    return inputs._replace(
        weights=inputs.weights * np.tile(factor, convolution.num_weights)
    ), factor


@convolutions
def test_convolution_is_linear_in_features_and_weights(case, check):
    run, (inputs, _) = convolution_program(case), random_edges(case)
    rng = np.random.default_rng(7)
    for field, mask in (("features", 1.0), ("weights", MASK[..., None])):
        one = getattr(inputs, field)
        other = rng.normal(size=one.shape) * mask
        parts = [run(inputs._replace(**{field: array})) for array in (one, other, one - 2 * other)]
        expected = [a - 2 * b for a, b, _ in zip(*parts, strict=True)]
        check(f"linearity in {field}", error(parts[2], expected))


@convolutions
def test_convolution_turns_with_its_edges(case, check):
    run, (inputs, _) = convolution_program(case), random_edges(case)
    rotated = inputs._replace(
        features=np.einsum("ab,nbc->nac", rotation(case.degree), inputs.features),
        vectors=inputs.vectors @ ROTATION.T,
    )
    expected = [turned(part, l) for l, part in enumerate(run(inputs))]
    check("rotation", error(run(rotated), expected), the_convolution(case).exact)


@convolutions
def test_convolution_is_mirrored_with_its_edges(case, check):
    run, (inputs, _) = convolution_program(case), random_edges(case)
    mirrored = inputs._replace(
        features=inputs.features * mirror(case.degree)[:, None], vectors=-inputs.vectors
    )
    expected = [(-1) ** l * part for l, part in enumerate(run(inputs))]
    broken = error(run(mirrored), expected)
    if the_convolution(case).mirrors or case.degree == 0:
        check("inversion", broken)
    else:
        assert broken > BROKEN


@convolutions
def test_convolution_sums_couplings_over_the_neighbours(case, check):
    """Coefficients of the couplings, found on one edge of each atom, give the sum over all."""
    run, convolution = convolution_program(case), the_convolution(case)
    inputs, factor = random_edges(case)
    degree, channels = case.degree, len(factor)
    d = (degree + 1) ** 2
    basis = np.broadcast_to(np.eye(d, channels), (NODES, d, channels))
    plain = edges(degree, convolution.num_weights).weights * ALONE[..., None]
    alone = run(inputs._replace(features=basis, weights=plain))
    parities = (0,) if convolution.mirrors else (0, 1)
    sender_features = inputs.features[senders()]  # (B, W, d, C)
    residual, expected = [], []
    for l3, part in enumerate(alone):
        total = np.zeros_like(part)
        for l1 in range(degree + 1):
            every = edge_couplings(l1, l3, parities)
            found = np.moveaxis(part[..., degree_slice(l1)], 2, 3)  # (N, m3, m1, copies)
            table = every[:, ALONE].reshape(len(every), -1).T
            target = found.reshape(table.shape[0], -1)
            coefficients = np.linalg.lstsq(table, target, rcond=None)[0]
            residual.append(target - table @ coefficients)
            x = sender_features[MASK][:, degree_slice(l1)]
            message = np.einsum("lp,lema,eac->empc", coefficients, every[:, MASK], x, optimize=True)
            np.add.at(total, RECEIVERS[np.nonzero(MASK)[0]], message)
        expected.append(total * factor)
    largest = max(np.abs(part).max(initial=0.0) for part in alone)
    rest = max(np.abs(part).max(initial=0.0) for part in residual)
    check("couplings", rest / largest, convolution.exact)
    check("sum", error(run(inputs), expected), convolution.exact)


@convolutions_on_edges
def test_convolution_of_features_on_edges(case, check):
    """Of the senders' features it is the same, row by row or edge by edge."""
    convolution, (inputs, _) = the_convolution(case), random_edges(case)
    y = [jnp.asarray(one) for one in edge_harmonics(inputs.vectors, case.degree)]

    @jax.jit
    def program(features, weights):
        on_edges = features[senders()]
        single = each_edge(convolution, on_edges, y, weights)
        return {
            "rows": [
                sum_blocks(part, graph()) for part in convolution.on_edges(on_edges, y, weights)
            ],
            "edges": [sum_blocks(part.sum(axis=1), graph()) for part in single],
        }

    expected = convolution_program(case)(inputs)
    found = program(jnp.asarray(inputs.features), jnp.asarray(inputs.weights))
    for form, parts in found.items():
        shaped = [np.reshape(a, b.shape) for a, b in zip(parts, expected, strict=True)]
        check(form, error(shaped, expected))


@convolutions_in_both_precisions
def test_convolution_in_single_precision(case, record_property):
    inputs, _ = random_edges(case)
    single, double = (convolution_program(case, one)(inputs) for one in ("float32", "float64"))
    found = error(single, double)
    record_property("rounding", f"{found:.1e}")
    assert found < FLOAT32.relative
    assert the_convolution(case).multiplies > 0
