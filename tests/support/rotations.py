"""Random rotations, and how they act on the components of features."""

import numpy as np
from scipy.spatial.transform import Rotation


def random_rotation(seed=0):
    """A proper rotation matrix, shape (3, 3)."""
    return Rotation.random(rng=np.random.default_rng(seed)).as_matrix()


def harmonics(vectors, lmax):
    """Degrees 0..lmax of the harmonics of unit vectors (n, 3), evaluated in numpy: (n, d)."""
    # Eager numpy arrays pass through the polynomials without compiling anything of their size.
    import jax.numpy as jnp

    from mlip.nn.spherical_harmonics import spherical_harmonics

    return np.stack(spherical_harmonics(jnp.asarray(vectors), lmax), axis=-1)


def representation(matrix, lmax):
    """D with Y(R r) = D Y(r), shape (d, d), fitted at random points: no convention enters."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4 * (lmax + 1) ** 2, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    before, after = harmonics(points, lmax), harmonics(points @ matrix.T, lmax)
    return np.linalg.lstsq(before, after, rcond=None)[0].T
