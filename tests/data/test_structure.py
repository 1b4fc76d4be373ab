import numpy as np
import pytest
from ase import Atoms

from mlip.data.structure import Structure
from mlip.errors import MlipError


def test_the_box_of_a_molecule_is_dropped():
    molecule = Atoms("H", cell=[50, 50, 50], pbc=False)
    assert not Structure.from_atoms(molecule).cell.any()


def test_the_cell_of_a_slab_is_kept():
    slab = Atoms("H", cell=[3, 3, 20], pbc=[True, True, False])
    assert Structure.from_atoms(slab).cell[2, 2] == 20


def test_charge_and_spin_come_from_info():
    structure = Structure.from_atoms(Atoms("H", info={"charge": 1, "spin": 2}))
    assert (structure.charge, structure.spin) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": np.zeros((2, 3))}, r"shape \(2, 3\)"),
        ({"positions": np.full((1, 3), np.nan)}, "not finite"),
        ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, "no atoms"),
        ({"pbc": np.ones(3, bool)}, "zero volume"),
    ],
)
def test_impossible_structures_are_refused(fields, message):
    valid = {"numbers": np.ones(1, int), "positions": np.zeros((1, 3)), "identifier": "f.xyz#3"}
    with pytest.raises(MlipError, match=rf"f\.xyz#3.*{message}"):
        Structure(**(valid | fields))
