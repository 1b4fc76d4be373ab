import numpy as np
import pytest

from mlip.data.neighbors import neighbor_list
from mlip.data.statistics import compute_statistics
from mlip.data.structure import Structure

E0 = {1: -10.0}


def chain(energy: float | None, forces: np.ndarray | None) -> Structure:
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    return Structure(np.ones(3, int), positions, energy=energy, forces=forces)


def statistics(structures):
    return compute_statistics(structures, [neighbor_list(s, 1.5) for s in structures], E0)


def test_values_by_hand():
    found = statistics([chain(-33.0, np.full((3, 3), 3.0)), chain(-36.0, np.full((3, 3), 4.0))])
    assert found.avg_num_neighbors == pytest.approx(4 / 3)
    assert found.scale == pytest.approx(np.sqrt(12.5))
    assert found.shift == pytest.approx(-1.5)
    assert found.avg_num_atoms == 3.0


def test_the_scale_without_forces_is_the_spread_of_energies():
    assert statistics([chain(-33.0, None), chain(-36.0, None)]).scale == pytest.approx(0.5)


def test_without_labels_or_neighbours_the_normalisation_is_neutral():
    atom = Structure(np.ones(1, int), np.zeros((1, 3)))
    assert tuple(statistics([atom])) == (1.0, 1.0, 0.0, 1.0)


def test_lonely_atoms_do_not_lower_the_mean():
    far = Structure(np.ones(3, int), np.array([[0.0, 0, 0], [1, 0, 0], [9, 0, 0]]))
    assert statistics([far]).avg_num_neighbors == 1.0


def test_every_structure_counts_for_the_mean_size():
    atom = Structure(np.ones(1, int), np.zeros((1, 3)))
    assert statistics([chain(None, None), atom, atom]).avg_num_atoms == pytest.approx(5 / 3)
