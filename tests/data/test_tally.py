import json

import numpy as np
import pytest

from mlip.data.e0 import make_e0
from mlip.data.neighbors import neighbor_list
from mlip.data.statistics import compute_statistics
from mlip.data.tally import Tally
from tests.support.sources import cluster
from tests.tolerances import FLOAT64

STRUCTURES = [cluster(index) for index in range(40)]


def tallied(structures):
    tally = Tally()
    tally.add(structures)
    for structure in structures:
        tally.add_neighbors(structure, 3.0)
    return tally


def test_sums_give_the_statistics_and_e0_of_all_structures():
    tally = tallied(STRUCTURES)
    e0 = make_e0("least_squares", STRUCTURES, [])
    neighbors = [neighbor_list(s, 3.0) for s in STRUCTURES]
    expected = compute_statistics(STRUCTURES, neighbors, e0.values)
    found = tally.fit_e0()
    assert found.values == pytest.approx(e0.values, abs=1e-7)
    assert found.mean == pytest.approx(e0.mean, abs=1e-7)
    assert found.residual == pytest.approx(e0.residual, rel=1e-4)
    assert tally.avg_num_neighbors == pytest.approx(expected.avg_num_neighbors)
    assert tally.force_rms == pytest.approx(expected.scale, rel=FLOAT64.relative)
    assert tally.elements == [1, 8]
    assert (tally.smallest, tally.largest) == (3, 9)
    assert tally.atoms.sum() == sum(map(len, STRUCTURES))


def test_parts_add_up_and_survive_being_written_down():
    merged = Tally()
    for part in (STRUCTURES[:15], [], STRUCTURES[15:]):
        merged.merge(Tally.from_json(json.loads(json.dumps(tallied(part).to_json()))))
    whole = tallied(STRUCTURES)
    for name, value in vars(whole).items():
        np.testing.assert_allclose(getattr(merged, name), value, rtol=1e-12, err_msg=name)


def test_one_composition_fixes_no_e0():
    table = tallied([STRUCTURES[0]] * 3).fit_e0()
    assert "fix only 1 of 2 values" in table.origin
    assert Tally().fit_e0() is None
