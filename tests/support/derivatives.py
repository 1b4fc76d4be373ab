"""First and second derivatives of functions of arrays, against central differences."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.tolerances import FLOAT64


def derivatives(function):
    """The result of a function under `vmap`, and of its squares f the derivatives.

    f is summed over a leading batch axis of all arguments; g = |∂f|².
    """

    def total(*arrays):
        parts = jax.vmap(function)(*arrays)
        return sum(jnp.sum(part**2) for part in jax.tree.leaves(parts)), parts

    def square(*arrays):
        every = tuple(range(len(arrays)))
        (f, parts), gradient = jax.value_and_grad(total, every, has_aux=True)(*arrays)
        return sum(jnp.sum(part**2) for part in gradient), (f, gradient, parts)

    @jax.jit
    def program(*arrays):
        both = jax.value_and_grad(square, tuple(range(len(arrays))), has_aux=True)
        (g, (f, df, parts)), dg = both(*arrays)
        return {"parts": parts, "f": f, "df": df, "g": g, "dg": dg}

    return lambda *arrays: jax.tree.map(np.asarray, program(*map(jnp.asarray, arrays)))


def check_derivatives(program, inputs):
    """Of f and of g = |∂f|², against central differences."""
    rng = np.random.default_rng(5)
    step = 1e-4
    along = [rng.normal(size=array.shape) / np.sqrt(array.size) for array in inputs]
    ahead, behind = (
        program(*(array + s * step * d for array, d in zip(inputs, along, strict=True)))
        for s in (1, -1)
    )
    for value, gradient in zip(("f", "g"), ("df", "dg"), strict=True):
        slope = sum(np.sum(d * g) for d, g in zip(along, program(*inputs)[gradient], strict=True))
        expected = (ahead[value] - behind[value]) / (2 * step)
        scale = max(abs(expected), abs(float(ahead[value])))
        assert abs(slope - expected) < FLOAT64.finite_difference * scale


def check_finite(program, inputs):
    found = program(*inputs)
    assert all(np.all(np.isfinite(array)) for name in ("df", "dg") for array in found[name])
