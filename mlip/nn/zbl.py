"""The Ziegler–Biersack–Littmark screened nuclear repulsion."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlip.nn.radial import polynomial_envelope

COEFFICIENTS = (0.1818, 0.5099, 0.2802, 0.02817)
EXPONENTS = (3.2, 0.9423, 0.4028, 0.2016)
SCREENING_EXPONENT = 0.300
SCREENING_PREFACTOR = 0.4543
SCREENING_LENGTH = SCREENING_PREFACTOR * 0.529  # Å
COULOMB = 14.3996  # e²/(4πε₀), eV·Å


def zbl_energy(
    distance: Float[Array, "..."],
    numbers_i: Float[Array, "..."],
    numbers_j: Float[Array, "..."],
    radii_sum: Float[Array, "..."],
    power: int,
) -> Float[Array, "..."]:
    """Half the repulsion of a pair, as every pair appears in both directions.

        V = ½ · 14.3996 Z_i Z_j / r · φ(r/a) · f(r),  a = 0.4543·0.529 / (Z_i^0.3 + Z_j^0.3)

    Args:
        distance: non-zero, Å.
        numbers_i: atomic numbers of the receivers.
        numbers_j: atomic numbers of the senders.
        radii_sum: sum of the covalent radii, where the envelope f ends, Å.
        power: power of the polynomial envelope.

    Returns:
        eV.

    Source: Ziegler, Biersack, Littmark, 1985; constants as in MACE.
    """
    a = SCREENING_LENGTH / (numbers_i**SCREENING_EXPONENT + numbers_j**SCREENING_EXPONENT)
    terms = zip(COEFFICIENTS, EXPONENTS, strict=True)
    phi = sum(c * jnp.exp((-e) * distance / a) for c, e in terms)
    envelope = polynomial_envelope(distance, radii_sum, power)
    return 0.5 * COULOMB * numbers_i * numbers_j / distance * phi * envelope
