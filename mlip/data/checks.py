"""Checks of labels, energies, forces and geometry of some structures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mlip.data.e0 import E0Table, interaction_energies
from mlip.data.findings import Findings
from mlip.data.neighbors import neighbor_list
from mlip.data.sources.source import EnergyReference
from mlip.data.splits import structure_keys
from mlip.data.structure import Structure
from mlip.data.unit_checks import check_force_scale, is_bonded, unit_of_total_energies
from mlip.errors import MlipError

SMALL_FORCES = 0.05  # eV/Å, RMS of a frame below which its net force is rounding noise
DOUBTFUL_NET_FORCE = 0.02  # relative, as in `PreflightSettings.max_net_force`
UNBOUND = 1.0  # eV/atom, mean E − ΣE0 above which matter would fall apart
WEAK = 0.5  # eV/atom, |mean E − ΣE0| below which bonded matter has doubtful units (cesium: 0.8)
SPREAD = 2.0  # eV/atom, spread of E − ΣE0 above which E0 or the energies are doubtful
OUTLIER = 30.0  # largest force component relative to the RMS
SAMPLE = 20  # structures looked at for bonds
NAMED = 5  # frames named in one message


def examine(
    samples: Mapping[str, list[Structure]],
    e0: E0Table,
    elements: Sequence[int],
    *,
    cutoff: float,
    reference: EnergyReference,
    max_energy_per_atom: float,
    max_net_force: float,
    max_bond_stiffness: float,
    sampled: Collection[str] = (),
) -> Findings:
    """Check labels, energies, net forces and geometry.

    Args:
        samples: structures by subset; the first subset is the one that is trained on.
        e0: isolated-atom energies.
        elements: atomic numbers of the training data.
        cutoff: Å, within which atoms should have neighbours.
        reference: what the training energies count from; only where nothing but the atoms was
            subtracted do energies say how strongly these are bound.
        max_energy_per_atom: as in `PreflightSettings`.
        max_net_force: likewise.
        max_bond_stiffness: likewise.
        sampled: the subsets whose structures are a sample of more.
    """
    findings = Findings()
    first = next(iter(samples))
    for name, structures in samples.items():
        _check_labels(findings, name, structures)
        where = f"the sample of {name}" if name in sampled else name
        _check_elements(findings, where, structures, elements, sampled=first in sampled)
        _check_net_forces(findings, name, structures, max_net_force)
        _check_neighbors(findings, name, structures, cutoff)
        check_force_scale(findings, name, structures, max_bond_stiffness)
    structures = samples[first]
    _check_energies(
        findings, structures, e0, max_energy_per_atom, binding=reference != "referenced"
    )
    _check_outliers(findings, first, structures)
    _check_states(findings, [s for structures in samples.values() for s in structures])
    return findings


def _names(structures: Sequence[Structure]) -> str:
    named = ", ".join(structure.identifier for structure in structures[:NAMED])
    return named + (f" and {len(structures) - NAMED} more" if len(structures) > NAMED else "")


def _check_labels(findings: Findings, name: str, structures: list[Structure]) -> None:
    lacking = {
        "energy": sum(s.energy is None for s in structures),
        "forces": sum(s.forces is None for s in structures),
    }
    atoms = sum(len(s) for s in structures)
    stresses = sum(s.stress is not None for s in structures)
    findings.facts.append(
        f"{name}: {len(structures)} structures, {atoms} atoms; labelled: "
        f"energy {len(structures) - lacking['energy']}, "
        f"forces {len(structures) - lacking['forces']}, stress {stresses}"
    )
    for label, count in lacking.items():
        if 0 < count < len(structures):
            findings.warnings.append(f"{name}: {count} of {len(structures)} frames lack {label}")
    periodic = sum(bool(s.pbc.all()) for s in structures)
    if 0 < stresses < periodic:
        findings.warnings.append(f"{name}: {periodic - stresses} periodic frames lack a stress")


def _check_elements(
    findings: Findings,
    where: str,
    structures: list[Structure],
    elements: Sequence[int],
    *,
    sampled: bool,
) -> None:
    """Find elements that are not those of the training data, or of their sample."""
    from ase.data import chemical_symbols

    bad = [s for s in structures if not np.isin(s.numbers, elements).all()]
    if bad:
        unknown = {int(number) for s in bad for number in s.numbers} - set(elements)
        symbols = " ".join(chemical_symbols[number] for number in sorted(unknown))
        why = (
            "the sample of the training data does not; the elements of streamed data are those of "
            "the sample, those that the files name and those with an E0: name them all in "
            "dataset.e0, prepare the training data (mlip data prepare), which finds them, or leave "
            "such frames out (dataset.on_bad_record=skip)"
            if sampled
            else "the training data do not, so that a model learns nothing about it, whatever E0 "
            "there is; train on such frames, too, or leave them out"
        )
        findings.fatal.append(f"{where} contains {symbols}, which {why}: {_names(bad)}")


def _check_net_forces(
    findings: Findings, name: str, structures: list[Structure], limit: float
) -> None:
    """Forces of an isolated molecule add up to zero; compare |ΣF| with sqrt(Σ|F|²)."""
    molecules, ratios = [], []
    for structure in structures:
        if structure.pbc.any() or structure.forces is None or len(structure) == 1:
            continue
        norm = float(np.linalg.norm(structure.forces))
        if norm > SMALL_FORCES * np.sqrt(structure.forces.size):
            molecules.append(structure)
            ratios.append(float(np.linalg.norm(structure.forces.sum(axis=0))) / norm)
    if not ratios:
        return
    worst = int(np.argmax(ratios))
    found = (
        f"forces of a molecule must add up to zero; the largest relative net force is "
        f"{ratios[worst]:.2g} in {molecules[worst].identifier}"
    )
    bad = [s for s, ratio in zip(molecules, ratios, strict=True) if ratio > limit]
    if bad:
        findings.fatal.append(
            f"{name}: {found} (limit {limit:g}, exceeded by {len(bad)} of {len(molecules)} "
            "frames); check that the forces belong to the atoms and that none were set to zero, "
            "or raise dataset.preflight.max_net_force for molecules in an external field"
        )
    elif ratios[worst] > DOUBTFUL_NET_FORCE:
        findings.warnings.append(f"{name}: {found}")


def _check_neighbors(
    findings: Findings, name: str, structures: list[Structure], cutoff: float
) -> None:
    lonely, broken = [], []
    for structure in structures:
        try:
            receivers = neighbor_list(structure, cutoff).receivers
        except MlipError as error:  # two atoms on one spot
            broken.append(str(error).rstrip("."))
            continue
        if len(structure) > 1 and len(np.unique(receivers)) < len(structure):
            lonely.append(structure)
    findings.fatal += broken[:NAMED]
    if len(broken) > NAMED:
        findings.fatal.append(f"{len(broken) - NAMED} more frames of {name} like these")
    if lonely:
        findings.warnings.append(
            f"{name}: atoms without a neighbour within {cutoff:g} Å in {_names(lonely)}"
        )


def _check_energies(
    findings: Findings,
    structures: Sequence[Structure],
    e0: E0Table,
    limit: float,
    *,
    binding: bool,
) -> None:
    labelled = [s for s in structures if s.energy is not None]
    if not labelled:
        return
    unit = unit_of_total_energies(labelled)
    if unit is not None:
        findings.fatal.append(
            f"the training energies look like {unit}: they equal the sum of the atoms' total "
            f"energies in {unit} within 4 %; convert energies and forces to eV and eV/Å"
        )
        return
    deviations = interaction_energies(labelled, e0.values)
    mean, spread = float(np.mean(deviations)), float(np.std(deviations))
    magnitude = float(np.mean(np.abs(deviations)))
    if magnitude > limit:
        findings.fatal.append(
            f"mean |E − ΣE0| is {magnitude:.4g} eV/atom (limit {limit:g}), so energies and E0 "
            f"({e0.origin}) do not belong together; check that both are in eV and from "
            "the same method"
        )
    elif binding and mean > UNBOUND:
        findings.warnings.append(
            f"E − ΣE0 is on average {mean:+.3g} eV/atom: less stable than free atoms; check E0"
        )
    if e0.origin.startswith(("least squares", "linear references")):
        findings.facts.append(
            "E0 are fitted to energies, so E − ΣE0 does not show a wrong unit of energy"
        )
    elif binding and magnitude < WEAK and is_bonded(labelled[:SAMPLE]):
        findings.warnings.append(
            f"|E − ΣE0| is on average {magnitude:.2g} eV/atom although most atoms are bonded, "
            "which takes 1 to 9 eV/atom; check that energies and forces are in eV and eV/Å "
            "(1 Hartree is 27.2 eV, 1 kcal/mol is 0.0434 eV)"
        )
    if spread > SPREAD:
        findings.warnings.append(
            f"E − ΣE0 spreads by {spread:.3g} eV/atom (RMS about its mean); check E0 and units"
        )


def _check_outliers(findings: Findings, name: str, structures: list[Structure]) -> None:
    labelled = [(s, s.forces) for s in structures if s.forces is not None]
    if not labelled:
        return
    largest = np.array([np.abs(forces).max() for _, forces in labelled])
    rms = np.sqrt(np.mean(np.square(np.concatenate([forces for _, forces in labelled]))))
    findings.facts.append(
        f"{name}: RMS force component {rms:.4g} eV/Å, largest {largest.max():.4g} eV/Å"
    )
    bad = [labelled[i][0] for i in np.flatnonzero(largest > OUTLIER * rms)]
    if bad:
        findings.warnings.append(f"{name}: force components above {OUTLIER:g} RMS in {_names(bad)}")


def _check_states(findings: Findings, structures: Sequence[Structure]) -> None:
    """Charge and spin of a structure are read from the data, but no model takes them."""
    for what, unit, values in (
        ("charge", "e", np.array([s.charge for s in structures])),
        ("spin", "unpaired electrons", np.array([s.spin for s in structures])),
    ):
        lowest, highest = float(values.min()), float(values.max())
        if lowest < highest:
            findings.warnings.append(
                f"the frames differ in their {what} ({lowest:g} to {highest:g} {unit}), which no "
                "model here takes into account: the same atoms at the same places get one energy, "
                f"whatever their {what}; train a potential for each"
            )
        elif what == "charge" and lowest:
            findings.warnings.append(
                f"all frames have the charge {lowest:+g} e, which no model here takes into "
                "account: the potential describes this charge alone, whatever charge a structure "
                "has that it is used for"
            )


def check_duplicates(
    findings: Findings,
    samples: Mapping[str, list[Structure]],
    apart: Collection[str],
    *,
    sampled: bool,
    drawn: Collection[str] = (),
) -> None:
    """Find structures that occur more than once.

    Args:
        findings: where to say so.
        samples: structures by subset.
        apart: subsets that must have nothing in common with those after them.
        sampled: whether the structures are samples of larger subsets, which can only be warned of.
        drawn: subsets that another `dataset.split_by` would keep apart from the first one.
    """
    seen: dict[int, tuple[str, Structure]] = {}
    for name, structures in samples.items():
        repeated: list[Structure] = []
        shared: list[tuple[Structure, str]] = []
        for structure in structures:
            keys = structure_keys(structure)
            found = next((seen[key] for key in keys if key in seen), None)
            subset, first = found or (name, structure)
            for key in keys:
                seen.setdefault(key, (subset, first))
            if found is None:
                continue
            if subset == name:
                repeated.append(structure)
            elif subset in apart:
                shared.append((structure, first.identifier))
        if repeated:
            findings.warnings.append(f"{name}: duplicates within the subset: {_names(repeated)}")
        if shared:
            pairs = ", ".join(f"{s.identifier} = {other}" for s, other in shared[:NAMED])
            trained_on = {*apart} <= {"train", "valid"}
            where = "the training or validation data" if trained_on else "files before it"
            said = f"{len(shared)} structures of {name} also stand in {where} ({pairs})"
            if not sampled:
                either = ", or set exclude_duplicates_of_train for the subset"
                findings.fatal.append(f"{said}; remove them{'' if name == 'valid' else either}")
            elif name in drawn:
                findings.warnings.append(f"{said}; dataset.split_by=trajectory keeps such apart")
            else:
                findings.warnings.append(
                    f"{said}; mlip data split makes subsets that have no structure in common"
                )
