import numpy as np
import pytest

from mlip.data.checks import examine
from mlip.data.e0 import make_e0, require_belonging
from mlip.data.preflight import PreflightSettings
from mlip.data.sources.registry import open_source
from mlip.data.structure import Structure
from mlip.errors import MlipError

TRUE = {1: -13.6, 6: -1029.5, 8: -2041.9}


def molecule(numbers: list[int], noise: float = 0.0, identifier: str = "m#0") -> Structure:
    energy = sum(TRUE[z] for z in numbers) + noise
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    return Structure(np.array(numbers), positions, energy=energy, identifier=identifier)


MIXTURE = [molecule([1, 1, 8]), molecule([6, 8, 8]), molecule([6, 1, 1, 1, 1]), molecule([6, 8])]
ISOLATED = [molecule([z], identifier=f"iso.xyz#{z}") for z in TRUE]


def test_least_squares_recovers_the_energies():
    table = make_e0("least_squares", MIXTURE, [])
    assert table.values == pytest.approx(TRUE, abs=1e-8)
    assert table.residual == pytest.approx(0, abs=1e-9)
    assert "least squares over 4" in table.origin


def test_least_squares_of_one_composition_says_so_and_still_fits_its_sum():
    train = [molecule([1, 1, 8], noise) for noise in (-0.3, 0.3)]
    table = make_e0("least_squares", train, [])
    assert "fix only 1 of 2" in table.origin
    assert table.sum(train[0]) == pytest.approx(2 * TRUE[1] + TRUE[8])
    assert table.residual == pytest.approx(0.1)


def test_isolated_atoms_name_their_file():
    table = make_e0("isolated", MIXTURE, ISOLATED)
    assert table.values == TRUE
    assert table.origin == "isolated atoms in iso.xyz"


def test_the_configuration_wins_over_frames():
    table = make_e0({"H": -1.0, "C": -2.0, "O": -3.0, "Fe": -4.0}, MIXTURE, ISOLATED)
    assert table.values == {1: -1.0, 6: -2.0, 8: -3.0, 26: -4.0}  # iron is not in the data
    assert table.origin == "the configuration"


def test_the_printed_table_has_values_origin_and_spread():
    printed = make_e0("isolated", MIXTURE, ISOLATED).table()
    for part in ("iso.xyz", "-1029.500000 eV", "mean", "spread"):
        assert part in printed


def test_training_on_forces_alone_needs_no_fit():
    bare = Structure(np.array([1, 8]), np.eye(3)[:2])
    table = make_e0({"H": 0.0, "O": 0.0}, [bare], [])
    assert table.mean is None
    assert "mean" not in table.table()


@pytest.mark.parametrize(
    ("choice", "isolated", "message"),
    [
        ("isolated", ISOLATED[:1], "no isolated-atom energy for C O"),
        ("isolated", [], "found: none"),
        ("isolated", [*ISOLATED, molecule([1], 0.1)], "second isolated H atom"),
        ({"H": -1.0, "C": -2.0}, [], "no energy for O"),
        ({"H": -1.0, "Xy": -2.0}, [], "'Xy' is not an element"),
    ],
)
def test_missing_or_contradictory_energies_are_refused(choice, isolated, message):
    with pytest.raises(MlipError, match=message):
        make_e0(choice, MIXTURE, isolated)


def test_single_atoms_without_their_mark_are_pointed_out():
    atoms = [molecule([z], identifier=f"train.xyz#{z}") for z in TRUE]
    with pytest.raises(MlipError) as error:
        make_e0("isolated", [*atoms, *MIXTURE], [])
    for part in ("config_type=IsolatedAtom into the comment line", "such as train.xyz#1",
                 "'dataset.e0={H: …, C: …, O: …}'", "dataset.e0=least_squares"):  # fmt: skip
        assert part in str(error.value)


def test_least_squares_without_energies_is_refused():
    with pytest.raises(MlipError, match="needs energies"):
        make_e0("least_squares", [Structure(np.array([1]), np.zeros((1, 3)))], [])


def test_linear_references_from_a_file(tmp_path):
    coefficients = np.full(100, 1e11)  # what a fit gives for elements that it has not seen
    coefficients[list(TRUE)] = list(TRUE.values())
    path = tmp_path / "linref.npz"
    np.savez(path, coeff=coefficients)
    table = make_e0(str(path), MIXTURE, [])
    assert table.values == pytest.approx(TRUE)
    assert table.origin == "linear references in linref.npz"
    iron = Structure(np.array([26]), np.zeros((1, 3)))
    for absent in (1e11, 0.0):  # what files have for elements that their data lack
        coefficients[26] = absent
        np.savez(path, coeff=coefficients)
        with pytest.raises(MlipError, match="no meaningful energy for Fe"):
            make_e0(str(path), [iron], [])


def test_a_file_of_linear_references_that_is_none(tmp_path):
    with pytest.raises(MlipError, match=r"none\.npz: expected isolated, least_squares"):
        make_e0(str(tmp_path / "none.npz"), MIXTURE, [])
    np.savez(tmp_path / "a.npz", other=np.zeros(100))
    with pytest.raises(MlipError, match=r"a\.npz: no array 'coeff'"):
        make_e0(str(tmp_path / "a.npz"), MIXTURE, [])


REFUSED = [
    ("isolated", "referenced"),
    ("isolated", "atomisation"),
    ({"H": -13.6}, "atomisation"),
    ("published.npz", "referenced"),
    ("published.npz", "atomisation"),
    ("prepared.npz", "total"),
]
ACCEPTED = [
    ("isolated", "total"),
    ("isolated", "unstated"),
    ("least_squares", "atomisation"),
    ({"H": -3.1}, "referenced"),  # may come from a fit
    ("published.npz", "total"),
    ("published.npz", "unstated"),
    ("prepared.npz", "referenced"),
]


@pytest.mark.parametrize(("choice", "reference"), REFUSED + ACCEPTED, ids=str)
def test_e0_belong_to_energies_that_contain_them(tmp_path, choice, reference):
    np.savez(tmp_path / "published.npz", coeff=np.full(10, -13.6))
    np.savez(tmp_path / "prepared.npz", coeff=np.full(10, -3.1), energy_reference="referenced")
    named = str(tmp_path / choice) if str(choice).endswith(".npz") else choice
    if (choice, reference) in ACCEPTED:
        require_belonging(named, {1: -13.6}, reference)
        return
    with pytest.raises(MlipError, match=f"the training energies are {reference} ones.* set dat"):
        require_belonging(named, {1: -13.6}, reference)
    if not str(choice).endswith(".npz"):
        require_belonging(named, {1: 0.0}, reference)


def test_shared_linear_references_of_oc20(shared):
    """They leave a few eV of the hundreds of a relaxed slab."""
    folder = shared / "data" / "oc20"
    source = open_source(folder / "s2ef_60.aselmdb")
    train = list(source)
    table = make_e0(str(folder / "oc20_linref.npz"), train, [])
    energies = np.array([structure.energy for structure in train])
    left = energies - [table.sum(structure) for structure in train]
    assert np.std(left) < 0.1 * np.std(energies)
    limits = PreflightSettings().model_dump()
    elements = sorted(table.values)
    findings = examine({"train": train}, table, elements, cutoff=5.0, reference="total", **limits)
    assert not any("most atoms are bonded" in warning for warning in findings.warnings)
