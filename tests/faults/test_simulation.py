"""Bad input to a simulation: one clear sentence, and nothing lost."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from rich.console import Console

from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.simulation.calculator import MLIPCalculator
from mlip.simulation.md import MDSettings, run_md
from mlip.simulation.md_log import read_log
from mlip.simulation.relax import RelaxSettings, run_relax
from tests.support.potentials import potential_of, tdn_config
from tests.support.toy import LennardJonesConfig, lennard_jones_potential

SETTINGS = MDSettings(temperature=40.0, timestep=4.0, steps=40, log_interval=5)


@pytest.fixture(scope="module")
def argon() -> Potential:
    return lennard_jones_potential(LennardJonesConfig())


@pytest.fixture(scope="module")
def direct() -> Potential:
    """Its forces are not the gradient of its energy."""
    return potential_of(tdn_config(elements=(18,), num_layers=1, forces="direct"))


@pytest.fixture
def dimer() -> Atoms:
    return Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO())


def test_an_element_the_potential_does_not_know(argon):
    atoms = Atoms("ArXe", [[0, 0, 0], [4, 0, 0]], calculator=MLIPCalculator(argon))
    with pytest.raises(MlipError, match="element Xe is not known to this model, which knows Ar"):
        atoms.get_potential_energy()


def test_a_periodic_cell_without_volume(argon):
    flat = Atoms("Ar", cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True)
    for atoms, message in (
        (flat, "zero volume"),
        (Atoms("Ar", pbc=True), "zero volume"),
        (Atoms("Ar", cell=[5, 0, 0], pbc=[True, True, False]), "zero length"),
    ):
        atoms.calc = MLIPCalculator(argon)
        with pytest.raises(MlipError, match=message):
            atoms.get_forces()


def test_the_cell_collapses_between_two_steps(argon):
    atoms = bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.calc = MLIPCalculator(argon)
    atoms.get_forces()
    atoms.set_cell(np.zeros((3, 3)))
    with pytest.raises(MlipError, match="zero volume"):
        atoms.get_forces()
    atoms.set_cell(np.full((3, 3), np.nan))
    with pytest.raises(MlipError, match="not finite"):
        atoms.get_forces()


def test_coinciding_atoms(argon, dimer):
    dimer.calc = MLIPCalculator(argon)
    dimer.get_forces()
    for start in (dimer, Atoms("Ar2", np.zeros((2, 3)))):  # by the kept list, by a fresh search
        start.calc = dimer.calc
        start.positions[1] = start.positions[0] + [0, 0, 1e-5]
        with pytest.raises(MlipError, match=r"atoms . and . are 1\.0e-05 Å apart"):
            start.get_forces()


def test_a_position_that_is_no_number(argon, dimer):
    dimer.calc = MLIPCalculator(argon)
    dimer.positions[1, 2] = np.nan
    with pytest.raises(MlipError, match="not finite"):
        dimer.get_forces()


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_a_skin_that_is_none(argon, skin):
    with pytest.raises(MlipError, match=f"skin={skin}: expected zero or more, .* Å farther"):
        MLIPCalculator(argon, skin=skin)


def test_no_structures_at_once(argon, dimer):
    with pytest.raises(MlipError, match="batch_size=0: expected at least one structure"):
        argon.predict([dimer], batch_size=0)


def test_no_atoms(argon):
    with pytest.raises(MlipError, match="no atoms"):
        Atoms(calculator=MLIPCalculator(argon)).get_potential_energy()


def test_a_bad_structure_leaves_the_calculator_usable(argon, dimer):
    dimer.calc = MLIPCalculator(argon)
    energy = dimer.get_potential_energy()
    broken = dimer.copy()
    broken.positions[1] = 0.0
    broken.calc = dimer.calc
    with pytest.raises(MlipError):
        broken.get_potential_energy()
    assert dimer.get_potential_energy() == energy


def test_an_explosion_is_stopped_with_the_last_sound_frame(argon, tmp_path, quiet):
    """Too long a timestep throws the atoms apart."""
    atoms = bulk("Ar", "fcc", 5.3, cubic=True)
    settings = MDSettings(
        temperature=300.0, timestep=60.0, steps=500, max_temperature=2000.0, log_interval=1
    )
    with pytest.raises(
        MlipError, match=r"stopped at step \d+: .*last sound frame, step \d+"
    ) as info:
        run_md(atoms, argon, settings, tmp_path, console=quiet)
    frame = read(tmp_path / "last_good.xyz")
    assert f"step {frame.info['step']}, is in" in str(info.value)
    assert np.isfinite(frame.positions).all()
    assert np.isfinite(frame.get_momenta()).all()
    log = read_log(tmp_path / "md.csv")
    assert log["step"][-1] == frame.info["step"]
    assert log["temperature_k"].max() <= 2000.0


def test_atoms_that_come_too_close_stop_the_run(argon, dimer, tmp_path, quiet):
    dimer.set_velocities([[0.1, 0, 0], [-0.1, 0, 0]])
    settings = MDSettings(
        timestep=1.0, steps=500, init_velocities=False, min_distance=3.0, max_temperature=1e9
    )
    with pytest.raises(
        MlipError, match=r"two atoms are 2\.\d+ Å apart, closer than min_distance=3"
    ):
        run_md(dimer, argon, settings, tmp_path, console=quiet)
    assert read(tmp_path / "last_good.xyz").get_distance(0, 1) >= 3.0


def test_a_potential_that_gives_no_number(argon, dimer, tmp_path, quiet, monkeypatch):
    evaluate, calls = argon.evaluate_graph, []

    def failing(*arguments):
        calls.append(1)
        output = evaluate(*arguments)
        return output._replace(forces=output.forces * (np.nan if len(calls) > 7 else 1.0))

    monkeypatch.setattr(argon, "evaluate_graph", failing)
    with pytest.raises(MlipError, match="stopped at step 7: the energy or a force is not a finite"):
        run_md(dimer, argon, SETTINGS, tmp_path / "md", console=quiet)
    assert read(tmp_path / "md" / "last_good.xyz").info["step"] == 6
    with pytest.raises(MlipError, match="not finite"):
        run_relax(dimer, argon, RelaxSettings(), tmp_path / "relax", console=quiet)


def test_a_start_that_is_no_structure(argon, tmp_path, quiet):
    atoms = Atoms("Ar2", [[0, 0, 0], [0.1, 0, 0]])
    with pytest.raises(MlipError, match=r"starting structure is not fit.*: .*0\.10 Å apart"):
        run_md(atoms, argon, SETTINGS, tmp_path, console=quiet)


@pytest.mark.parametrize("run", [run_md, run_relax])
def test_a_folder_that_cannot_be_written(argon, dimer, tmp_path, quiet, run):
    (tmp_path / "file").write_text("in the way")
    settings = SETTINGS if run is run_md else RelaxSettings()
    with pytest.raises(MlipError, match=r"cannot write to the folder .*file/run"):
        run(dimer, argon, settings, tmp_path / "file" / "run", console=quiet)


def test_a_full_disk_loses_nothing(argon, dimer, tmp_path, quiet, monkeypatch):
    """The run continues to the same end once there is room."""
    whole = run_md(dimer, argon, SETTINGS, tmp_path / "whole", console=quiet)
    replace, calls = __import__("os").replace, []

    def full(source, target):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("mlip.simulation.records.os.replace", full)
        with pytest.raises(MlipError, match=r"No space left on device.*continues from the last"):
            run_md(dimer, argon, SETTINGS, tmp_path / "full", console=quiet)
    result = run_md(dimer, argon, SETTINGS, tmp_path / "full", console=quiet)
    np.testing.assert_array_equal(result.atoms.positions, whole.atoms.positions)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_a_damaged_restart_file(argon, dimer, tmp_path, quiet, damage):
    run_md(dimer, argon, SETTINGS, tmp_path, console=quiet)
    path = tmp_path / "restart.npz"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:400] + bytes([content[400] ^ 255]) + content[401:],
            "text": b"not a zip file",
        }[damage]
    )
    log = (tmp_path / "md.csv").read_bytes()
    with pytest.raises(MlipError, match=r"restart.npz is damaged .*cannot be continued"):
        run_md(dimer, argon, SETTINGS, tmp_path, console=quiet)
    assert (tmp_path / "md.csv").read_bytes() == log


def test_a_log_cut_short_after_the_restart_file(argon, dimer, tmp_path, quiet):
    run_md(dimer, argon, SETTINGS, tmp_path, console=quiet)
    (tmp_path / "md.csv").write_text("step\n")
    with pytest.raises(MlipError, match="it was changed since"):
        run_md(dimer, argon, SETTINGS, tmp_path, console=quiet)


def test_fewer_steps_than_were_done(argon, dimer, tmp_path, quiet):
    run_md(dimer, argon, SETTINGS, tmp_path, console=quiet)
    shorter = SETTINGS.model_copy(update={"steps": 10})
    with pytest.raises(MlipError, match="40 steps, more than the 10 asked for"):
        run_md(dimer, argon, shorter, tmp_path, console=quiet)


class TestDirectForces:
    """What a potential whose forces are not the gradient of its energy cannot do."""

    @pytest.mark.parametrize(
        ("ensemble", "reason"),
        [("nve", "no total energy is conserved"), ("npt", "there is no stress")],
    )
    def test_ensembles(self, direct, quiet, tmp_path, ensemble, reason):
        atoms = bulk("Ar", "fcc", 5.3, cubic=True)
        message = f"ensemble={ensemble}: the forces .* not the gradient .*{reason}; use ensemble="
        with pytest.raises(MlipError, match=message):
            run_md(atoms, direct, MDSettings(ensemble=ensemble), tmp_path / "run", console=quiet)
        assert not (tmp_path / "run").exists()

    def test_a_relaxing_cell(self, direct, quiet, tmp_path):
        atoms = bulk("Ar", "fcc", 5.3, cubic=True)
        with pytest.raises(MlipError, match="relax_cell=true needs a stress, but"):
            run_relax(atoms, direct, RelaxSettings(relax_cell=True), tmp_path, console=quiet)

    def test_a_stress(self, direct):
        atoms = bulk("Ar", "fcc", 5.3, cubic=True)
        atoms.calc = MLIPCalculator(direct)
        with pytest.raises(PropertyNotImplementedError, match="there is no stress; train with"):
            atoms.get_stress()

    def test_a_thermostat_is_served(self, direct, quiet, tmp_path):
        """In a periodic cell, where other potentials have a pressure to log."""
        atoms = bulk("Ar", "fcc", 5.3, cubic=True)
        settings = MDSettings(ensemble="langevin", temperature=5.0, steps=2, log_interval=1)
        run_md(atoms, direct, settings, tmp_path, console=quiet)
        log = read_log(tmp_path / "md.csv")
        assert np.all(np.isnan(log["pressure_gpa"]))
        assert np.all(log["volume_a3"] > 0)
