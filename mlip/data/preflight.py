"""The check of a data set before training: what is fatal raises, what is doubtful is listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from mlip.data.checks import check_duplicates, examine
from mlip.data.derivative_checks import check_energy_scale
from mlip.errors import MlipError
from mlip.settings import Settings

if TYPE_CHECKING:
    from mlip.data.dataset import Dataset


class PreflightSettings(Settings):
    """Limits beyond which a data set is refused."""

    max_energy_per_atom: float = Field(
        15.0, gt=0, description="largest plausible mean |E − ΣE0| per atom, eV"
    )
    max_net_force: float = Field(
        0.2,
        gt=0,
        description="largest |ΣF| of a molecule relative to sqrt(Σ|F|²), which is about 1 for "
        "unrelated numbers and 0 for a gradient",
    )
    max_bond_stiffness: float = Field(
        150.0,
        gt=0,
        description="largest plausible force constant of the bonds to hydrogen, eV/Å²; 25 to 50 "
        "in molecules",
    )


@dataclass(frozen=True)
class PreflightReport:
    """What the check found, none of it fatal.

    Attributes:
        facts: what was measured, one sentence each.
        warnings: what deserves a look, one sentence each.
    """

    facts: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """For printing."""
        return [*self.facts, *(f"warning: {warning}" for warning in self.warnings)]


def preflight(dataset: Dataset, cutoff: float) -> PreflightReport:
    """Check labels, energies, net forces, geometry and duplicates of all subsets.

    Of subsets that are streamed, the sample is checked.

    Args:
        dataset: as loaded.
        cutoff: of the model, Å.

    Raises:
        MlipError: naming everything fatal: coinciding atoms, elements without E0, implausible
            energies, net forces, duplicates across subsets.
    """
    from mlip.data.frames import Frames

    samples = {name: dataset.sample(name) for name in dataset.subsets}
    limits = dataset.settings.preflight.model_dump()
    findings = examine(
        samples,
        dataset.e0,
        dataset.elements,
        cutoff=cutoff,
        reference=dataset.energy_reference,
        sampled=[name for name, subset in dataset.subsets.items() if isinstance(subset, Frames)],
        **limits,
    )
    for name, structures in samples.items():
        check_energy_scale(findings, name, structures)
    settings = dataset.settings
    drawn = settings.valid is None and settings.split_by == "frame"
    check_duplicates(
        findings,
        samples,
        ("train", "valid"),
        sampled=isinstance(dataset.train, Frames),
        drawn=("valid",) if drawn else (),
    )
    if findings.fatal:
        raise MlipError(
            f"the data set {dataset.settings.name!r} cannot be used: "
            + "; ".join(findings.fatal)
            + "."
        )
    if dataset.settings.mask_fixed and not any(
        s.fixed is not None for structures in samples.values() for s in structures
    ):
        findings.warnings.append(
            "dataset.mask_fixed=true has no effect: no frame has atoms that a constraint holds in "
            "place"
        )
    return PreflightReport((*dataset.notes, *findings.facts), tuple(findings.warnings))
