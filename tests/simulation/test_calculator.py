"""The ASE calculator: values, units, signs, and how seldom it compiles."""

from __future__ import annotations

import logging

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import Trajectory, read
from ase.optimize import BFGS
from ase.stress import voigt_6_to_full_3x3_stress

from mlip.simulation.calculator import MLIPCalculator
from tests.support.toy import LennardJonesConfig, lennard_jones_potential
from tests.tolerances import FLOAT32, FLOAT64

E0 = -1.5


def reference(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.calc = AseLennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, ro=3.96, smooth=True)
    return copy


def assert_agrees(atoms: Atoms, tolerance=FLOAT64) -> None:
    """All properties against ASE's own Lennard-Jones."""
    expected = reference(atoms)
    energy = expected.get_potential_energy() + E0 * len(atoms)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=tolerance.energy)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    energies = expected.get_potential_energies() + E0
    np.testing.assert_allclose(atoms.get_potential_energies(), energies, atol=tolerance.node_energy)
    np.testing.assert_allclose(
        atoms.get_forces(), expected.get_forces(), atol=tolerance.forces, rtol=0
    )
    if atoms.pbc.all():
        np.testing.assert_allclose(
            atoms.get_stress(), expected.get_stress(), atol=tolerance.stress, rtol=0
        )


@pytest.mark.parametrize("pbc", [True, False, (True, True, False), (False, False, True)])
def test_agrees_with_ase_for_every_periodicity(calculator, crystal, pbc):
    crystal.pbc = pbc
    crystal.calc = calculator
    assert_agrees(crystal)


def test_agrees_without_cell_vectors_along_free_axes(calculator, crystal):
    crystal.pbc = (True, False, True)
    cell = crystal.cell.array.copy()
    cell[1] = 0.0
    crystal.set_cell(cell)
    crystal.calc = calculator
    assert_agrees(crystal)


def test_one_calculator_for_many_structures(argon, crystal, cluster):
    """Cells smaller than the cutoff, one atom, atoms without neighbours, changing sizes."""
    primitive = bulk("Ar", "fcc", 5.3)
    structures = [
        crystal,
        primitive,
        Atoms("Ar"),
        Atoms("Ar", cell=[30, 30, 30], pbc=True),
        Atoms("Ar2", [[0, 0, 0], [50, 0, 0]]),
        cluster,
        make_supercell(primitive, [[1, 0, 0], [0, 2, 0], [0, 0, 1]]),
        cluster[:20],
        crystal,
    ]
    calculator = MLIPCalculator(argon)
    for atoms in structures:
        atoms.calc = calculator
        assert_agrees(atoms)
    assert len(calculator.shapes) < len(structures)


def test_an_atom_alone_has_the_energy_e0(argon):
    atoms = Atoms("Ar", calculator=MLIPCalculator(argon))
    assert atoms.get_potential_energy() == E0
    assert not atoms.get_forces().any()


def test_forces_and_stress_are_derivatives_of_the_energy(calculator, crystal):
    """Central differences; the stress by strain, so tension has a positive stress."""
    crystal.calc = calculator
    forces, stress = crystal.get_forces(), crystal.get_stress()
    step = 1e-4

    def energy(change) -> float:
        moved = crystal.copy()
        change(moved)
        moved.calc = crystal.calc
        return moved.get_potential_energy()

    def shift(amount):
        return lambda atoms: atoms.positions.__setitem__((5, 1), atoms.positions[5, 1] + amount)

    slope = (energy(shift(step)) - energy(shift(-step))) / (2 * step)
    assert forces[5, 1] == pytest.approx(-slope, rel=1e-5)

    for component, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * step
        strain[j, i] += 0.5 * step

        def deform(sign, strain=strain):
            return lambda atoms: atoms.set_cell(
                atoms.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True
            )

        slope = (energy(deform(1)) - energy(deform(-1))) / (2 * step)
        expected = slope / crystal.get_volume()
        assert stress[component] == pytest.approx(expected, abs=1e-8)


def test_a_stretched_crystal_has_positive_stress(argon):
    for length, sign in ((5.6, 1.0), (5.0, -1.0)):
        atoms = bulk("Ar", "fcc", length, cubic=True)
        atoms.calc = MLIPCalculator(argon)
        assert np.all(sign * atoms.get_stress()[:3] > 0)


def test_stress_comes_in_voigt_order_and_as_a_matrix(calculator, crystal):
    crystal.calc = calculator
    matrix = crystal.get_stress(voigt=False)
    np.testing.assert_allclose(voigt_6_to_full_3x3_stress(crystal.get_stress()), matrix)
    np.testing.assert_allclose(matrix, matrix.T)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_stress_without_three_periods_is_refused(calculator, crystal, pbc):
    crystal.pbc = pbc
    crystal.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="three directions"):
        crystal.get_stress()
    crystal.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="three directions"):
        crystal.get_stress()


def test_kept_list_gives_what_a_fresh_calculator_gives(argon, crystal):
    """Along a walk with wrapping and strain, to the last bit."""
    rng = np.random.default_rng(7)
    crystal.calc = kept = MLIPCalculator(argon, skin=1.0)
    crystal.get_forces()
    for step in range(25):
        crystal.positions += 0.03 * rng.normal(size=(len(crystal), 3))
        strain = np.eye(3) + 0.002 * rng.normal(size=(3, 3))
        crystal.set_cell(crystal.cell.array @ strain, scale_atoms=True)
        if step % 3 == 0:
            crystal.wrap()
        fresh = crystal.copy()
        fresh.calc = MLIPCalculator(argon, skin=0.0, shapes=kept.shapes)
        assert crystal.get_potential_energy() == fresh.get_potential_energy()
        np.testing.assert_array_equal(crystal.get_forces(), fresh.get_forces())
        np.testing.assert_array_equal(crystal.get_stress(), fresh.get_stress())
    assert kept.searches < 10


def test_energy_is_continuous_where_pairs_enter(argon):
    atoms = Atoms("Ar2", [[0, 0, 0], [5.9, 0, 0]], calculator=MLIPCalculator(argon))
    energies = []
    for distance in np.linspace(5.999, 6.001, 41):
        atoms.positions[1, 0] = distance
        energies.append(atoms.get_potential_energy() - 2 * E0)
    assert energies[0] < -1e-10
    assert np.abs(np.diff(energies)).max() < 1e-9
    assert energies[-1] == 0.0


def test_float32_keeps_large_total_energies_exact_enough(crystal):
    """The interaction energy is in float32; E0 and the sum are not."""
    potential = lennard_jones_potential(
        LennardJonesConfig(), e0={18: -14345.678901}, precision="float32"
    )
    crystal.calc = MLIPCalculator(potential)
    expected = reference(crystal)
    energy = crystal.get_potential_energy() + 14345.678901 * len(crystal)
    assert energy == pytest.approx(expected.get_potential_energy(), abs=1e-5)
    assert crystal.get_forces().dtype == np.float64
    np.testing.assert_allclose(
        crystal.get_forces(), expected.get_forces(), atol=FLOAT32.forces, rtol=0
    )


def test_float32_far_from_the_origin(cluster):
    potential = lennard_jones_potential(LennardJonesConfig(), precision="float32")
    cluster.calc = MLIPCalculator(potential)
    here = cluster.get_forces()
    cluster.positions += 1e5
    np.testing.assert_allclose(cluster.get_forces(), here, atol=1e-5)


def test_float64_does_not_depend_on_the_global_setting(calculator, crystal):
    with jax.enable_x64(False):
        crystal.calc = calculator
        assert_agrees(crystal)


@pytest.fixture
def log(caplog, monkeypatch):
    """What the package logs, also after a command in this process that showed it by itself."""
    monkeypatch.setattr(logging.getLogger("mlip"), "propagate", True)
    return caplog


def test_compiles_once_and_says_why_beforehand(crystal, log, monkeypatch):
    potential = lennard_jones_potential(LennardJonesConfig(cutoff=5.0, onset=4.0))
    crystal.calc = calculator = MLIPCalculator(potential)
    evaluate, said = potential._evaluate, []

    def watched(*arguments):
        said.append(len(log.messages))
        return evaluate(*arguments)

    monkeypatch.setattr(potential, "_evaluate", watched)
    rng = np.random.default_rng(0)
    with log.at_level(logging.WARNING, logger="mlip"):
        for _ in range(5):
            crystal.positions += 0.05 * rng.normal(size=(len(crystal), 3))
            crystal.get_forces()
        (record,) = calculator.compilations
        assert record.reason == "first structure"
        assert record.shape == calculator.shapes[0]
        assert record.seconds > 0
        bigger = crystal * (2, 1, 1)
        bigger.calc = calculator
        bigger.get_forces()
    assert calculator.compilations[1].reason == "64 atoms exceed the largest bucket of 32"
    assert len(potential.compilations) == 2
    first, second = log.records
    assert first.getMessage().endswith("edges (first structure) …")
    assert first.levelno >= logging.lastResort.level, "not shown unless logging is set up"
    assert "(64 atoms exceed the largest bucket of 32)" in second.getMessage()
    assert said == [1, 1, 1, 1, 1, 2]


def test_a_shape_given_by_a_run_to_be_continued_is_compiled_for_aloud(argon, crystal, log):
    crystal.calc = first = MLIPCalculator(argon)
    crystal.get_forces()
    again = lennard_jones_potential(LennardJonesConfig(), e0={18: -1.5})
    crystal.calc = second = MLIPCalculator(again, shapes=first.shapes)
    log.clear()
    crystal.get_forces()
    (record,) = second.compilations
    assert record.reason == "first use of a shape given to the calculator"
    assert record.reason in log.text


def test_a_second_calculator_of_the_same_potential_does_not_compile(argon, crystal):
    crystal.calc = first = MLIPCalculator(argon)
    crystal.get_forces()
    crystal.calc = second = MLIPCalculator(argon, shapes=first.shapes)
    crystal.get_forces()
    assert second.compilations == []


def test_composition_may_change(crystal):
    config = LennardJonesConfig(elements=(10, 18))
    potential = lennard_jones_potential(config, e0={10: -1.0, 18: -2.0})
    crystal.calc = MLIPCalculator(potential)
    total = crystal.get_potential_energy()
    crystal.numbers[:3] = 10
    assert crystal.get_potential_energy() == pytest.approx(total + 3.0, abs=1e-9)
    energies = crystal.get_potential_energies()
    np.testing.assert_allclose(energies[:2] - energies[3:5], 1.0, atol=0.1)


def test_agrees_with_predict(argon, crystal, cluster):
    predictions = argon.predict([crystal, cluster])
    for atoms, prediction in zip((crystal, cluster), predictions, strict=True):
        atoms.calc = argon.calculator()
        assert atoms.get_potential_energy() == pytest.approx(prediction.energy, abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-10)


def test_works_with_the_rest_of_ase(argon, crystal, tmp_path):
    """Sums of calculators (as for dispersion), trajectories, relaxations."""
    calculator = MLIPCalculator(argon)
    crystal.calc = SumCalculator([calculator, calculator])
    doubled = crystal.get_potential_energy()
    stress = crystal.get_stress()
    crystal.calc = calculator
    assert doubled == pytest.approx(2 * crystal.get_potential_energy())
    np.testing.assert_allclose(stress, 2 * crystal.get_stress())
    with Trajectory(tmp_path / "out.traj", "w", crystal) as trajectory:
        BFGS(crystal, logfile=None, trajectory=trajectory).run(fmax=0.01, steps=5)
    last = read(tmp_path / "out.traj")
    assert last.get_potential_energy() == crystal.get_potential_energy()
    np.testing.assert_array_equal(last.get_stress(), crystal.get_stress())


def test_results_are_not_computed_twice(calculator, crystal, monkeypatch):
    crystal.calc = calculator
    crystal.get_potential_energy()
    monkeypatch.setattr(calculator.potential, "evaluate_graph", None)
    crystal.get_forces()
    crystal.get_stress()
    crystal.set_velocities(np.ones((len(crystal), 3)))
    crystal.get_potential_energies()
