"""Signs and units are recognised from the data alone: a harmonic crystal, scaled and turned."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase import units

from mlip.data.derivative_checks import check_stresses, check_work
from mlip.data.findings import Findings
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.structure import Structure

STIFFNESS = 3.0  # eV/Å²
BULK = 0.8  # eV/Å³


def steps(count=12, seed=0):
    """Pairs of frames of harmonic atoms, a small step apart."""
    rng = np.random.default_rng(seed)
    frames = []
    positions = rng.normal(scale=0.1, size=(5, 3))
    for _ in range(count + 1):
        energy = 0.5 * STIFFNESS * float(np.sum(positions**2))
        forces = -STIFFNESS * positions
        frames.append(Structure(np.full(5, 6), positions, energy=energy, forces=forces))
        positions = positions + rng.normal(scale=0.03, size=(5, 3))
    return list(pairwise(frames))


def crystals(scale=1.0, count=12):
    """Copies of one crystal with different volumes and σ = K ln(V/V₀)."""
    made = []
    for strain in np.linspace(-0.02, 0.02, count):
        cell = 4.0 * (1 + strain) * np.eye(3)
        stress = scale * BULK * 3 * np.log(1 + strain) * np.eye(3)
        made.append(
            Structure(np.full(4, 29), np.zeros((4, 3)), cell, np.full(3, True), stress=stress)
        )
    return made


def rescaled(pairs, energy=1.0, forces=1.0):
    return [
        tuple(replace(s, energy=energy * s.energy, forces=forces * s.forces) for s in pair)
        for pair in pairs
    ]


def test_matching_forces_are_a_fact():
    findings = Findings()
    assert check_work(findings, "train", steps())
    assert not findings.warnings
    assert "12 small steps" in findings.facts[0]
    assert "are 1 times the work" in findings.facts[0]


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [
        (1.0, -1.0, "probably have the wrong sign"),
        (1.0, units.mol / units.kcal, "different units .such as kcal/mol beside eV"),
        (1 / units.Hartree, 1.0, "different units .such as Hartree beside eV"),
        (1 / units.Hartree, units.Bohr / units.Hartree, "such as Hartree/Bohr beside Hartree/Å"),
        (1.0, 3.3, "different units$"),
    ],
)
def test_wrong_signs_and_units_of_forces(energy, forces, message):
    findings = Findings()
    check_work(findings, "train", rescaled(steps(), energy, forces))
    (warning,) = findings.warnings
    assert re.search(message, warning), warning


def test_frames_that_do_not_follow_each_other_say_nothing():
    findings = Findings()
    far = [(a, replace(b, positions=b.positions + 1.0)) for a, b in steps()]
    check_work(findings, "train", far)
    assert not findings.warnings
    assert "too few frames follow each other" in findings.facts[0]
    unrelated = [
        (a, replace(b, energy=float(np.random.default_rng(i).normal())))
        for i, (a, b) in enumerate(steps())
    ]
    check_work(findings, "train", unrelated)
    assert not findings.warnings


def test_sound_stresses_are_facts():
    findings = Findings()
    check_stresses(findings, "train", crystals())
    assert not findings.warnings
    assert "correlation 1.00 between mean normal stress" in findings.facts[1]


def test_the_sign_and_the_unit_of_stresses():
    findings = Findings()
    check_stresses(findings, "train", crystals(scale=-1.0))
    assert "probably has the opposite sign" in findings.warnings[0]
    findings = Findings()
    check_stresses(findings, "train", crystals(scale=1 / units.GPa))
    assert "were these GPa, kbar" in findings.warnings[0]


@pytest.mark.parametrize("file", ["Data01.lmdb", "Data02.lmdb"])
def test_relaxations_from_poor_structures_are_sound(root, file):
    """Their first steps are too long for the trapezoidal rule; most others are not."""
    source = open_source(
        root / "datasets" / "pubchemqcr_mini" / file, SourceSettings(stage="mixing")
    )
    findings = Findings()
    check_work(findings, file, list(pairwise(source)))
    assert not findings.warnings
    assert "times the work of the forces" in findings.facts[0]
