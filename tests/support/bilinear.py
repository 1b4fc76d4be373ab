"""Bilinear products taken apart: the coefficient of every coupling, and common checks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mlip.nn.irreps import clebsch_gordan, degree_slice, dim
from tests.support.rotations import random_rotation, representation


def coupling_tensors(product, paths):
    """M with z = M x y for each degree of the result, shape (d1, d2, 2l+1, copies)."""
    d1, d2 = dim(product.lmax1), dim(product.lmax2)
    x = np.repeat(np.eye(d1), d2, axis=0)[..., None]
    y = np.tile(np.eye(d2), (d1, 1))[..., None]
    parts = jax.jit(partial(product, paths=paths))(x, y)
    return [np.asarray(part).reshape(d1, d2, *part.shape[1:]) for part in parts]


def coupling_constants(product, paths):
    """Coefficients of the Clebsch–Gordan blocks in a product, and what they leave.

    Returns:
        {(l1, l2, l3): one number for each copy}, inside the triangle; and the largest number left
        after these multiples of the blocks are taken away.
    """
    constants, residual = {}, 0.0
    for l3, tensor in enumerate(coupling_tensors(product, paths)):
        assert tensor.shape[-1] == product.copies(paths)[l3]
        for l1 in range(product.lmax1 + 1):
            for l2 in range(product.lmax2 + 1):
                block = tensor[degree_slice(l1), degree_slice(l2)]
                if abs(l1 - l2) <= l3 <= l1 + l2:
                    coupling = clebsch_gordan(l1, l2, l3)
                    found = np.einsum("ijkn,ijk->n", block, coupling)
                    constants[l1, l2, l3] = found
                    block = block - coupling[..., None] * found
                residual = max(residual, np.max(np.abs(block), initial=0.0))
    return constants, residual


def check_layout_and_equivariance(product, paths, sign):
    """Two axes of atoms, channels against one channel, copies, and an orthogonal matrix."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, dim(product.lmax1), 2))
    y = rng.normal(size=(2, 3, dim(product.lmax2), 1))
    highest = max(product.lmax1, product.lmax2, product.output_lmax)
    d = representation(sign * random_rotation(1), highest)
    program = jax.jit(partial(product, paths=paths))

    def turned(part):
        return np.einsum("ij,...jc->...ic", d[: part.shape[-2], : part.shape[-2]], part)

    before, after = program(x, y), program(turned(x), turned(y))
    separate = [program(x[..., c : c + 1], y) for c in range(2)]
    flip = sign if paths == "odd" else 1  # a pseudo-tensor does not follow an inversion
    for l, (first, second) in enumerate(zip(before, after, strict=True)):
        copies = product.copies(paths)[l]
        assert first.shape == (2, 3, 2 * l + 1, copies * 2)
        rotation = flip * d[degree_slice(l), degree_slice(l)]
        expected = np.einsum("ij,...jc->...ic", rotation, first)
        np.testing.assert_allclose(second, expected, rtol=0, atol=1e-10)
        by_channel = np.stack([part[l] for part in separate], axis=-1)
        np.testing.assert_allclose(first, by_channel.reshape(first.shape), rtol=0, atol=1e-12)


def check_second_derivatives(product, paths):
    """The gradient of a norm of a gradient is finite, and right along one direction."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(1, dim(l), 1))) for l in (product.lmax1, product.lmax2))

    def cubic(x, y):
        return sum(jnp.sum(part**3) for part in product(x, y, paths))

    def norm(x, y):
        return sum(jnp.sum(part**2) for part in jax.grad(cubic, argnums=(0, 1))(x, y))

    value_and_gradients = jax.jit(jax.value_and_grad(norm, argnums=(0, 1)))
    step, gradients = 1e-5, value_and_gradients(x, y)[1]
    values = [
        value_and_gradients(x + sign * step * y[:, :1], y - sign * step)[0] for sign in (1, -1)
    ]
    expected = jnp.sum(gradients[0] * y[:, :1]) - jnp.sum(gradients[1])
    np.testing.assert_allclose((values[0] - values[1]) / (2 * step), expected, rtol=1e-6)
