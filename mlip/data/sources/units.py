"""Units by the names that data files use."""

from __future__ import annotations

from ase import units

from mlip.errors import MlipError

# By lower-case name, in eV, Å and numbers.
VALUES = {
    "ev": 1.0,
    "mev": 1e-3,
    "hartree": units.Hartree,
    "ha": units.Hartree,
    "rydberg": units.Rydberg,
    "ry": units.Rydberg,
    "kcal": units.kcal,
    "kj": units.kJ,
    "mol": units.mol,
    "ang": 1.0,
    "angstrom": 1.0,
    "a": 1.0,
    "å": 1.0,
    "bohr": units.Bohr,
    "a0": units.Bohr,
    "nm": units.nm,
}


def unit(name: str, where: str) -> float:
    """The factor to eV and Å of a unit such as `Hartree/Ang` or `kcal/mol/Ang`.

    Args:
        name: factors separated by a stroke.
        where: it stands, for the message.

    Raises:
        MlipError: for a unit that is not known.
    """
    value, *divisors = [VALUES.get(part.strip().lower()) for part in name.split("/")]
    if value is None or None in divisors:
        raise MlipError(
            f"{where}: unknown unit {name!r}; expected factors among {', '.join(VALUES)}, "
            "such as Hartree/Bohr."
        )
    for divisor in divisors:
        assert divisor is not None
        value /= divisor
    return value
