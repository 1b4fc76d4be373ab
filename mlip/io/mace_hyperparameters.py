"""MACE's hyperparameters, by its own names, as a `MACEConfig`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from mlip.errors import MlipError
from mlip.models.mace import MACEConfig

_INTERACTIONS = {
    "RealAgnosticInteractionBlock": "plain",
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
}

_REQUIRED = (
    "atomic_numbers",
    "atomic_energies",
    "r_max",
    "num_bessel",
    "num_polynomial_cutoff",
    "max_ell",
    "interaction",
    "interaction_first",
    "num_interactions",
    "hidden_irreps",
    "MLP_irreps",
    "gate",
    "avg_num_neighbors",
    "correlation",
    "radial_MLP",
)

# Names of the same thing: arguments of MACE's constructor and how they are written to files.
_ALIASES = {
    "interaction_cls": "interaction",
    "interaction_cls_first": "interaction_first",
    "model_class": "model",
}

# Options of which only these values have a counterpart here; the first one holds where an option
# is absent, as in MACE.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "gate": ("silu",),
    "radial_type": ("bessel",),
    "distance_transform": ("None", None, "Agnesi"),
    "model": (None, "ScaleShiftMACE", "MACE"),
    "apply_cutoff": (True,),
    "cueq_config": (None,),
    "edge_irreps": (None,),
    "embedding_specs": (None,),
    "readout_cls": ("NonLinearReadoutBlock",),
    "use_agnostic_product": (False,),
    "use_edge_irreps_first": (False,),
    "use_embedding_readout": (False,),
    "use_last_readout_only": (False,),
    "use_so3": (False,),
}

# Harmless: each follows from other hyperparameters or from the weights, whose names, sizes and
# constants are compared, or says where the numbers come from.
_HARMLESS = {
    "edge_sh_irreps",
    "hidden_irreps_per_layer",
    "interactions",
    "num_elements",
    "readouts",
    "use_reduced_cg",  # another basis of couplings: the weights' own one is compared
    "dtype",
    "n_params",
    "num_parameters",
    "source",
    "stored_dtype",
}

_OPTIONAL = {"pair_repulsion", "atomic_inter_scale", "atomic_inter_shift", "heads"}
_KNOWN = {*_REQUIRED, *_SUPPORTED, *_HARMLESS, *_OPTIONAL}


def config_from_torch(hyperparameters: Mapping[str, Any]) -> MACEConfig:
    """MACE's hyperparameters under our names.

    Args:
        hyperparameters: by MACE's own names (`r_max`, `hidden_irreps`, …).

    Raises:
        MlipError: for an option that is not known or has no counterpart here, or one that is
            missing.
    """
    h = {_ALIASES.get(name, name): value for name, value in hyperparameters.items()}
    _check_names(h)
    _check_values(h)
    channels, hidden_lmax = _parse_hidden_irreps(h["hidden_irreps"])
    values = {
        "elements": tuple(h["atomic_numbers"]),
        "cutoff": h["r_max"],
        "channels": channels,
        "hidden_lmax": hidden_lmax,
        "lmax": h["max_ell"],
        "num_layers": h["num_interactions"],
        "correlation": h["correlation"],
        "num_bessel": h["num_bessel"],
        "envelope_power": h["num_polynomial_cutoff"],
        "radial_mlp": tuple(h["radial_MLP"]),
        "distance_transform": "agnesi" if h.get("distance_transform") == "Agnesi" else "none",
        "interaction": _interaction(h["interaction"]),
        "first_interaction": _interaction(h["interaction_first"]),
        "readout_mlp": _parse_readout_irreps(h["MLP_irreps"]),
        "zbl": bool(h.get("pair_repulsion", False)),
        "avg_num_neighbors": h["avg_num_neighbors"],
        "scale": _number(h, "atomic_inter_scale", 1.0),
        "shift": _number(h, "atomic_inter_shift", 0.0),
    }
    try:
        return MACEConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise MlipError(
            f"these hyperparameters have no counterpart here: as {name}, {first['input']} was "
            f"found ({first['msg'].lower()})."
        ) from error


def isolated_energies(hyperparameters: Mapping[str, Any]) -> dict[int, float]:
    """Energy of each element's isolated atom, eV.

    Raises:
        MlipError: unless there is one energy for each element.
    """
    numbers = [int(number) for number in hyperparameters["atomic_numbers"]]
    energies = np.asarray(hyperparameters["atomic_energies"], dtype=np.float64).ravel()
    if len(energies) != len(numbers):
        raise MlipError(
            f"atomic_energies has {len(energies)} numbers, expected one for each of the "
            f"{len(numbers)} elements; a model with several heads is not supported."
        )
    return dict(zip(numbers, energies.tolist(), strict=True))


def _check_names(h: Mapping[str, Any]) -> None:
    missing = [name for name in _REQUIRED if name not in h]
    if h.get("model") == "ScaleShiftMACE":
        wanted = ("atomic_inter_scale", "atomic_inter_shift")
        missing += [name for name in wanted if h.get(name) is None]
    if missing:
        raise MlipError(
            f"the hyperparameters lack {', '.join(missing)}; give them by MACE's own names."
        )
    unknown = sorted(set(h) - _KNOWN)
    if unknown:
        raise MlipError(
            f"the hyperparameter {unknown[0]}={h[unknown[0]]} is not known, so that the model "
            "might be another one than the weights were trained in; leave it out if it changes "
            "nothing."
        )


def _check_values(h: Mapping[str, Any]) -> None:
    for name, allowed in _SUPPORTED.items():
        if h.get(name, allowed[0]) not in allowed:
            expected = [str(value) for value in allowed if value is not None] or ["None"]
            raise MlipError(
                f"{name}={h[name]} is not supported; expected {' or '.join(expected)}: a model "
                "with anything else has no counterpart here."
            )
    heads = h.get("heads") or ["Default"]
    if len(heads) > 1:
        raise MlipError(
            f"heads={list(heads)}: a model with several heads is not supported; extract one of "
            "them first."
        )
    if h.get("model") == "MACE" and h.get("atomic_inter_scale") is not None:
        raise MlipError(
            "atomic_inter_scale is given for model=MACE, which has no scale; expected "
            "model=ScaleShiftMACE, or no scale."
        )


def _number(h: Mapping[str, Any], name: str, absent: float) -> float:
    """One number, also where it stands in a list of one head."""
    value = h.get(name)
    found = np.ravel(absent if value is None else value)
    if len(found) != 1:
        raise MlipError(
            f"{name} has {len(found)} numbers, expected one; a model with several heads is not "
            "supported."
        )
    return float(found[0])


def _interaction(name: str) -> str:
    if name not in _INTERACTIONS:
        known = ", ".join(_INTERACTIONS)
        raise MlipError(f"interaction block {name} is not supported; expected one of {known}.")
    return _INTERACTIONS[name]


def _parse_hidden_irreps(irreps: str) -> tuple[int, int]:
    parts = [re.fullmatch(r"(\d+)x(\d+[eo])", part.strip()) for part in str(irreps).split("+")]
    expected = [f"{l}{'e' if l % 2 == 0 else 'o'}" for l in range(len(parts))]
    found = [part.groups() for part in parts if part is not None]
    if [name for _, name in found] != expected or len({count for count, _ in found}) != 1:
        raise MlipError(
            f"hidden_irreps={irreps} is not supported; expected equally many channels of "
            "0e, 1o, 2e, … as in 64x0e+64x1o."
        )
    return int(found[0][0]), len(parts) - 1


def _parse_readout_irreps(irreps: str) -> int:
    found = re.fullmatch(r"(\d+)x0e", str(irreps).strip())
    if found is None:
        raise MlipError(f"MLP_irreps={irreps} is not supported; expected scalars as in 16x0e.")
    return int(found[1])
