"""Molecular dynamics: conservation, temperature, pressure, and exact continuation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import read

from mlip.errors import MlipError
from mlip.simulation.md import MDSettings, run_md
from mlip.simulation.md_log import read_log
from mlip.simulation.restart import load_restart

NVE = MDSettings(temperature=40.0, timestep=4.0, steps=60, log_interval=5, trajectory_interval=10)


def variant(settings: MDSettings, **changes) -> MDSettings:
    """The settings with some changed."""
    return MDSettings(**(settings.model_dump(exclude_unset=True) | changes))


class Killed(BaseException):
    """Stands for a signal that ends the process."""


def run_killed_at(call: int, monkeypatch, atoms, potential, settings, folder, console) -> None:
    """Run until the potential has been evaluated `call` times, then die without a word."""
    count = 0
    evaluate = potential.evaluate_graph

    def dying(*arguments):
        nonlocal count
        count += 1
        if count > call:
            raise Killed
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(potential, "evaluate_graph", dying)
        with pytest.raises(Killed):
            run_md(atoms, potential, settings, folder, console=console)


def outputs(folder) -> dict[str, bytes]:
    """The text files of a run."""
    return {name: (folder / name).read_bytes() for name in ("md.csv", "trajectory.xyz")}


def test_nve_conserves_energy_and_says_so(argon, crystal, tmp_path, console):
    result = run_md(crystal, argon, variant(NVE, steps=250), tmp_path, console=console)
    assert abs(result.drift.slope) < 0.01
    assert result.drift.fluctuation < 0.01
    assert result.steps == 250
    assert result.time == pytest.approx(1.0)
    text = console.file.getvalue()
    assert "nve, 32 atoms, 250 steps of 4 fs, float64 on cpu" in text
    assert f"energy drift {result.drift.slope:+.4f} meV/atom/ps" in text
    assert (tmp_path / "energy_drift.png").read_bytes().startswith(b"\x89PNG")


def test_a_longer_timestep_conserves_worse(argon, crystal, tmp_path, console):
    short, long = (
        run_md(crystal, argon, variant(NVE, timestep=dt), tmp_path / str(dt), console=console)
        for dt in (4.0, 16.0)
    )
    assert short.drift.fluctuation < 0.2 * long.drift.fluctuation


def test_the_log_and_the_trajectory_hold_the_run(argon, crystal, tmp_path, console):
    run_md(crystal, argon, NVE, tmp_path, console=console)
    log = read_log(tmp_path / "md.csv")
    np.testing.assert_array_equal(log["step"], np.arange(0, 61, 5))
    np.testing.assert_allclose(log["time_ps"], log["step"] * 0.004)
    np.testing.assert_allclose(log["total_ev"], log["potential_ev"] + log["kinetic_ev"], atol=1e-8)
    np.testing.assert_allclose(log["volume_a3"], crystal.get_volume(), atol=1e-5)

    frames = read(tmp_path / "trajectory.xyz", index=":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 61, 10))
    last = frames[-1]
    assert last.get_potential_energy() == pytest.approx(log["potential_ev"][-1], abs=1e-7)
    assert last.get_kinetic_energy() == pytest.approx(log["kinetic_ev"][-1], abs=1e-5)
    last.calc, stored = argon.calculator(), last.calc
    np.testing.assert_allclose(last.get_forces(), stored.results["forces"], atol=1e-6)
    stress = last.get_stress(voigt=False, include_ideal_gas=True)
    assert log["pressure_gpa"][-1] == pytest.approx(-np.trace(stress) / 3 / units.GPa, abs=1e-4)


def test_molecules_have_no_pressure_and_do_not_tumble(argon, cluster, tmp_path, console):
    result = run_md(cluster, argon, variant(NVE, temperature=5), tmp_path, console=console)
    assert np.isnan(read_log(tmp_path / "md.csv")["pressure_gpa"]).all()
    assert np.abs(result.atoms.get_momenta().sum(axis=0)).max() < 1e-9
    assert np.abs(result.atoms.get_angular_momentum()).max() < 1e-7
    np.testing.assert_allclose(
        result.atoms.get_center_of_mass(), cluster.get_center_of_mass(), atol=1e-9
    )


@pytest.mark.parametrize(
    ("ensemble", "killed_after"), [("nve", 23), ("nve", 1), ("langevin", 38), ("npt", 34)]
)
def test_a_killed_run_continues_to_the_last_bit(
    argon, crystal, tmp_path, console, monkeypatch, ensemble, killed_after
):
    settings = variant(NVE, ensemble=ensemble, pressure=0.1 if ensemble == "npt" else 0.0)
    whole = run_md(crystal, argon, settings, tmp_path / "whole", console=console)
    folder = tmp_path / "killed"
    run_killed_at(killed_after, monkeypatch, crystal, argon, settings, folder, console)
    assert outputs(folder) != outputs(tmp_path / "whole")
    result = run_md(crystal, argon, settings, folder, console=console)
    np.testing.assert_array_equal(result.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(result.atoms.get_momenta(), whole.atoms.get_momenta())
    np.testing.assert_array_equal(result.atoms.cell.array, whole.atoms.cell.array)
    assert outputs(folder) == outputs(tmp_path / "whole")
    assert "continuing from step" in console.file.getvalue()


def test_killed_twice_while_outgrowing_buckets(argon, cluster, tmp_path, console, monkeypatch):
    """A collapsing cluster gains neighbours; the continued run must use the same shapes."""
    cluster.positions *= 1.3
    inwards = cluster.get_center_of_mass() - cluster.positions
    cluster.set_velocities(0.01 * inwards)
    settings = variant(NVE, init_velocities=False)
    whole = run_md(cluster, argon, settings, tmp_path / "whole", console=console)
    shapes = load_restart(tmp_path / "whole" / "restart.npz").shapes
    assert len(shapes) > 1
    for call in (30, 31):
        run_killed_at(call, monkeypatch, cluster, argon, settings, tmp_path / "killed", console)
    result = run_md(cluster, argon, settings, tmp_path / "killed", console=console)
    assert load_restart(tmp_path / "killed" / "restart.npz").shapes == shapes
    np.testing.assert_array_equal(result.atoms.positions, whole.atoms.positions)


def test_a_finished_run_is_not_repeated_but_can_be_prolonged(argon, crystal, tmp_path, console):
    run_md(crystal, argon, variant(NVE, steps=30), tmp_path / "a", console=console)
    before = outputs(tmp_path / "a")
    again = run_md(crystal, argon, variant(NVE, steps=30), tmp_path / "a", console=console)
    assert again.steps == 30
    assert outputs(tmp_path / "a") == before
    longer = run_md(crystal, argon, NVE, tmp_path / "a", console=console)
    whole = run_md(crystal, argon, NVE, tmp_path / "b", console=console)
    np.testing.assert_array_equal(longer.atoms.positions, whole.atoms.positions)
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")


def test_a_run_of_other_settings_or_structure_is_not_continued(argon, crystal, tmp_path, console):
    run_md(crystal, argon, variant(NVE, steps=5), tmp_path, console=console)
    with pytest.raises(MlipError, match=r"temperature=50\.0 \(was 40\.0\)"):
        run_md(crystal, argon, variant(NVE, temperature=50.0), tmp_path, console=console)
    crystal.positions[0] += 0.01
    with pytest.raises(MlipError, match="another starting structure or potential"):
        run_md(crystal, argon, NVE, tmp_path, console=console)


def test_langevin_holds_the_temperature(argon, cluster, tmp_path, console):
    settings = MDSettings(
        ensemble="langevin",
        temperature=20.0,
        timestep=8.0,
        steps=1000,
        friction=5.0,
        log_interval=4,
    )
    result = run_md(cluster, argon, settings, tmp_path, console=console)
    assert result.temperature == pytest.approx(20.0, rel=0.1)
    assert result.drift is None
    assert "drift" not in console.file.getvalue()


def test_npt_follows_the_pressure(argon, tmp_path, console):
    crystal = bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)
    volumes = {}
    for pressure in (0.0, 1.0):
        settings = MDSettings(
            ensemble="npt",
            temperature=20.0,
            pressure=pressure,
            timestep=8.0,
            steps=500,
            barostat_time=0.5,
            friction=5.0,
        )
        folder = tmp_path / str(pressure)
        atoms = run_md(crystal, argon, settings, folder, console=console).atoms
        log = read_log(folder / "md.csv")
        volumes[pressure] = log["volume_a3"][-25:].mean()
        assert log["pressure_gpa"][-25:].mean() == pytest.approx(pressure, abs=0.25)
        np.testing.assert_allclose(atoms.cell.array / atoms.cell.array[0, 0], np.eye(3), atol=1e-12)
    assert volumes[1.0] < 0.9 * volumes[0.0]


def test_fixed_atoms_stay(argon, cluster, tmp_path, console):
    cluster.set_constraint(FixAtoms([0, 1, 2]))
    for ensemble in ("nve", "langevin"):
        settings = variant(NVE, ensemble=ensemble, steps=20)
        atoms = run_md(cluster, argon, settings, tmp_path / ensemble, console=console).atoms
        np.testing.assert_array_equal(atoms.positions[:3], cluster.positions[:3])
        assert np.abs(atoms.positions[3:] - cluster.positions[3:]).max() > 1e-3


def test_own_velocities_are_kept(argon, cluster, tmp_path, console):
    cluster.set_velocities(np.tile([0.01, 0.0, 0.0], (32, 1)))
    settings = variant(NVE, init_velocities=False, steps=10)
    atoms = run_md(cluster, argon, settings, tmp_path, console=console).atoms
    assert "starting with the structure's own velocities, at " in console.file.getvalue()
    moved = atoms.get_center_of_mass() - cluster.get_center_of_mass()
    np.testing.assert_allclose(moved, [0.01 * 10 * 4.0 * units.fs, 0, 0], atol=1e-9)


def test_a_start_at_rest_is_said(argon, cluster, tmp_path, console):
    settings = variant(NVE, init_velocities=False, steps=0)
    run_md(cluster, argon, settings, tmp_path, console=console)
    said = console.file.getvalue()
    assert "init_velocities=false: starting without velocities, as the structure has none" in said


def test_ensembles_refuse_what_they_cannot_do(argon, cluster, crystal, tmp_path, console):
    with pytest.raises(MlipError, match="npt needs periodicity in three directions"):
        run_md(cluster, argon, variant(NVE, ensemble="npt"), tmp_path / "a", console=console)
    crystal.set_constraint(FixAtoms([0]))
    with pytest.raises(MlipError, match="remove the constraints"):
        run_md(crystal, argon, variant(NVE, ensemble="npt"), tmp_path / "b", console=console)


def test_length_in_steps_or_in_time():
    assert MDSettings().num_steps == 2000
    assert MDSettings(time=2.0, timestep=1.0).num_steps == 2000
    assert MDSettings(steps=7).num_steps == 7
    with pytest.raises(MlipError, match="not both"):
        MDSettings(steps=7, time=1.0)
    with pytest.raises(MlipError, match="max_temperature"):
        MDSettings(temperature=6000.0)


def test_a_single_atom_flies_straight(argon, tmp_path, console):
    atoms = run_md(Atoms("Ar"), argon, variant(NVE, steps=10), tmp_path, console=console).atoms
    assert np.linalg.norm(atoms.positions) > 0
