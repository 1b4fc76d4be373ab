"""The constants that a MACE model of torch stores beside its weights, compared with those here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from ase.data import covalent_radii

from mlip.errors import MlipError
from mlip.models.mace import MACEConfig
from mlip.nn.generalized_cg import coupling_polynomials, coupling_tensor
from mlip.nn.irreps import clebsch_gordan
from mlip.nn.radial import AGNESI_A, AGNESI_P, AGNESI_Q
from mlip.nn.zbl import COEFFICIENTS, SCREENING_EXPONENT, SCREENING_PREFACTOR

# Constants may have been rounded to single precision on their way.
RELATIVE, ABSOLUTE = 1e-6, 1e-6

_U_MATRIX = re.compile(
    r"products\.\d+\.symmetric_contractions\.contractions\.(\d+)\.U_matrix_(\d+)"
)
_WIGNER_3J = re.compile(r".*\._w3j_(\d+)_(\d+)_(\d+)")
_BY_ELEMENT = re.compile(r".*\.covalent_radii")  # a table with a row for every atomic number


def is_constant(name: str, found: np.ndarray, config: MACEConfig, e0: Mapping[int, float]) -> bool:
    """Whether a torch array is a constant of a model, as opposed to a weight.

    Args:
        name: in torch.
        found: the array.
        config: of the model.
        e0: energy of each element's isolated atom, eV.

    Raises:
        MlipError: if it is one, but of another value than is computed with here.
    """
    # Torch's empty placeholders, and which components an operation reaches: the shapes say so too.
    if np.size(found) == 0 or name.endswith(".output_mask"):
        return True
    expected = _expected(name, config, e0)
    if expected is None:
        return False
    found = np.asarray(found, dtype=np.float64)
    if _BY_ELEMENT.fullmatch(name):
        if found.size <= max(config.elements):
            raise _differ(name, f"{found.size} elements", f"one of {max(config.elements)}")
        found = found.ravel()[list(config.elements)]
    if _U_MATRIX.fullmatch(name) and found.size == expected.size:
        expected, found = _polynomials(expected, found)
    if found.size != expected.size:
        raise _differ(name, f"{found.size} numbers", str(expected.size))
    expected, found = expected.ravel(), found.ravel()
    close = np.isclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE)
    if not close.all():
        worst = int(np.argmin(close))
        raise _differ(name, f"{found[worst]:.7g}", f"{expected[worst]:.7g}")
    return True


def _expected(name: str, config: MACEConfig, e0: Mapping[int, float]) -> np.ndarray | None:
    """What is computed with here; `None` for a name that is no constant of this model."""
    if match := _U_MATRIX.fullmatch(name):
        degree, order = map(int, match.groups())
        if degree > config.hidden_lmax or not 1 <= order <= config.correlation:
            return None
        return coupling_tensor(config.lmax, degree, order)
    if match := _WIGNER_3J.fullmatch(name):
        return clebsch_gordan(*map(int, match.groups()))
    value = _plain_constants(config, e0).get(name)
    return None if value is None else np.asarray(value, dtype=np.float64)


def _plain_constants(config: MACEConfig, e0: Mapping[int, float]) -> dict[str, object]:
    """By torch name."""
    cutoff, orders = config.cutoff, np.arange(1, config.num_bessel + 1)
    radii = covalent_radii[list(config.elements)]
    constants: dict[str, object] = {
        "atomic_numbers": config.elements,
        "num_interactions": config.num_layers,
        "r_max": cutoff,
        "atomic_energies_fn.atomic_energies": [e0[number] for number in config.elements],
        "radial_embedding.bessel_fn.bessel_weights": orders * np.pi / cutoff,
        "radial_embedding.bessel_fn.prefactor": np.sqrt(2.0 / cutoff),
        "radial_embedding.bessel_fn.r_max": cutoff,
        "radial_embedding.cutoff_fn.p": config.envelope_power,
        "radial_embedding.cutoff_fn.r_max": cutoff,
        "scale_shift.scale": config.scale,
        "scale_shift.shift": config.shift,
    }
    if config.distance_transform == "agnesi":
        parts = {"q": AGNESI_Q, "p": AGNESI_P, "a": AGNESI_A, "covalent_radii": radii}
        constants |= {f"radial_embedding.distance_transform.{k}": v for k, v in parts.items()}
    if config.zbl:
        parts = {
            "a_exp": SCREENING_EXPONENT,
            "a_prefactor": SCREENING_PREFACTOR,
            "c": COEFFICIENTS,
            "covalent_radii": radii,
            "p": config.envelope_power,
        }
        constants |= {f"pair_repulsion_fn.{k}": v for k, v in parts.items()}
    return constants


def _polynomials(expected: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Couplings as polynomials of one feature: the order of its copies does not matter.

    Torch puts the paths last, and leaves out the axis of a scalar result.
    """
    paths, *rest = expected.shape
    moved = np.moveaxis(found.reshape(*rest, paths), -1, 0)
    return coupling_polynomials(expected), coupling_polynomials(moved)


def _differ(name: str, found: str, expected: str) -> MlipError:
    return MlipError(
        f"the weights hold {name} with {found}, where a model of these hyperparameters computes "
        f"with {expected}; correct the hyperparameters, or if this constant was trained, the model "
        "has no counterpart here."
    )
