"""Figures that other parts of the program use too."""

import numpy as np

from mlip.reporting.error_figures import plot_errors_by_element, plot_parity
from mlip.reporting.figures import plot_energy_drift


def test_energy_drift_figure(tmp_path):
    time_ps = np.linspace(0, 1, 50)
    energy = -5e6 + 0.3 * time_ps + 0.05 * np.sin(40 * time_ps)
    path = plot_energy_drift(tmp_path / "new folder" / "drift.png", time_ps, energy, 0.3)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_energy_drift_of_a_constant_energy(tmp_path):
    flat = np.full(3, -1.0)
    assert plot_energy_drift(tmp_path / "flat.png", np.arange(3.0), flat, 0.0).exists()


def test_parity_of_a_single_perfect_value(tmp_path):
    value = np.array([0.5])
    assert plot_parity(tmp_path / "p.png", {"a": (value, value)}, "eV", "eV").exists()


def test_many_points_are_drawn_as_a_density(tmp_path):
    values = np.random.default_rng(0).normal(size=3000)
    path = plot_parity(tmp_path / "p.png", {"a": (values, values + 0.1)}, "eV", "eV")
    assert path.exists()


def test_parity_of_more_subsets_than_a_row_holds(tmp_path):
    values = np.linspace(-1, 1, 5)
    subsets = {f"set {i}": (values, values + 0.1 * i) for i in range(4)}
    small = plot_parity(tmp_path / "one.png", {"a": (values, values)}, "eV", "eV")
    large = plot_parity(tmp_path / "four.png", subsets, "eV", "eV")
    assert large.stat().st_size > small.stat().st_size


def test_elements_that_only_some_subsets_have(tmp_path):
    errors = {"a": {"H": 10.0, "C": 20.0}, "b": {"O": 5.0}}
    assert plot_errors_by_element(tmp_path / "e.png", errors).exists()
