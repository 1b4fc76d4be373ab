"""Relaxation of positions and cells."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import read

from mlip.errors import MlipError
from mlip.simulation.relax import RelaxSettings, run_relax


@pytest.mark.parametrize("optimizer", ["bfgs", "lbfgs", "fire"])
def test_a_rattled_crystal_finds_its_lattice(argon, crystal, tmp_path, console, optimizer):
    settings = RelaxSettings(optimizer=optimizer, fmax=0.001)
    result = run_relax(crystal, argon, settings, tmp_path, console=console)
    assert result.converged
    assert result.max_force < 0.001
    lattice = result.atoms.copy()
    lattice.set_scaled_positions((bulk("Ar", "fcc", 5.3, cubic=True) * 2).get_scaled_positions())
    found, ideal = (a.get_all_distances(mic=True)[0] for a in (result.atoms, lattice))
    np.testing.assert_allclose(found, ideal, atol=0.05)
    assert "converged in" in console.file.getvalue()


def test_the_files_hold_the_relaxation(argon, crystal, tmp_path, console):
    result = run_relax(crystal, argon, RelaxSettings(fmax=0.005), tmp_path, console=console)
    assert result.path == tmp_path / "relaxed.xyz"
    stored = read(result.path)
    assert stored.get_potential_energy() == pytest.approx(result.energy, abs=1e-7)
    np.testing.assert_allclose(stored.positions, result.atoms.positions, atol=1e-7)
    frames = read(tmp_path / "trajectory.xyz", index=":")
    energies = [frame.get_potential_energy() for frame in frames]
    assert len(frames) == result.steps + 1
    assert energies[-1] == min(energies)
    rows = (tmp_path / "relax.csv").read_text().splitlines()
    assert len(rows) == result.steps + 2


def test_the_cell_relaxes_to_the_pressure(argon, tmp_path, console):
    atoms = bulk("Ar", "fcc", 5.1, cubic=True)
    atoms.set_cell(atoms.cell.array + 0.05 * np.arange(9).reshape(3, 3) / 8, scale_atoms=True)
    settings = RelaxSettings(relax_cell=True, fmax=0.003, pressure=1.0)
    relaxed = run_relax(atoms, argon, settings, tmp_path, console=console).atoms
    stress = relaxed.get_stress() / units.GPa
    np.testing.assert_allclose(stress, [-1.0] * 3 + [0.0] * 3, atol=0.02)
    assert "pressure 1.0" in console.file.getvalue()


def test_not_converged_is_said_and_kept_apart(argon, crystal, tmp_path, console):
    run_relax(crystal, argon, RelaxSettings(fmax=0.01), tmp_path, console=console)
    settings = RelaxSettings(fmax=1e-6, max_steps=2)
    result = run_relax(crystal, argon, settings, tmp_path, console=console)
    assert not result.converged
    assert result.steps == 2
    assert "NOT CONVERGED after 2 steps" in console.file.getvalue()
    assert result.path == tmp_path / "unconverged.xyz"
    assert not (tmp_path / "relaxed.xyz").exists()


def test_fixed_atoms_stay(argon, cluster, tmp_path, console):
    cluster.set_constraint(FixAtoms([0, 5]))
    atoms = run_relax(cluster, argon, RelaxSettings(), tmp_path, console=console).atoms
    np.testing.assert_array_equal(atoms.positions[[0, 5]], cluster.positions[[0, 5]])


def test_the_start_is_not_changed(argon, crystal, tmp_path, console):
    before = crystal.positions.copy()
    run_relax(crystal, argon, RelaxSettings(max_steps=3), tmp_path, console=console)
    np.testing.assert_array_equal(crystal.positions, before)
    assert crystal.calc is None


def test_a_cell_needs_three_periods(argon, cluster, tmp_path, console):
    with pytest.raises(MlipError, match="relax_cell=true needs periodicity"):
        run_relax(cluster, argon, RelaxSettings(relax_cell=True), tmp_path, console=console)
