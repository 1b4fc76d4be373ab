"""MACE reproduces energies, forces and stresses recorded from mace-torch with the same weights.

`tests/golden/` is made by scripts/make_golden_fixtures.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from safetensors.numpy import load_file

from mlip.data.collate import BatchShape, collate, count_blocks
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.io.mace_torch import from_torch_weights
from tests.tolerances import GOLDEN

FOLDER = Path(__file__).resolve().parents[1] / "golden"
SHARED = ["mace_l1_residual", "mace_l2_density_zbl_agnesi", "mace_l0_three_layers"]


def with_prefix(arrays, prefix):
    return {key.removeprefix(prefix): v for key, v in arrays.items() if key.startswith(prefix)}


def as_structure(reference):
    pbc = reference["pbc"].astype(bool)
    atoms = Atoms(reference["numbers"], reference["positions"], cell=reference["cell"], pbc=pbc)
    return Structure.from_atoms(atoms)


def predict_together(potential, structures):
    """All structures in one batch of one shape: one compilation."""
    pairs = [neighbor_list(structure, potential.cutoff) for structure in structures]
    width = 16
    blocks = sum(count_blocks(p, len(s), width) for p, s in zip(pairs, structures, strict=True))
    shape = BatchShape(len(structures), sum(map(len, structures)), blocks, width)
    graph = collate(structures, pairs, potential.elements, shape, np.float64)
    return potential.unpack(potential.evaluate_graph(graph), structures)


def check(hyperparameters, weights, expected, separator):
    """Compare every recorded structure; `expected` has keys like `0/energy`."""
    potential = from_torch_weights(hyperparameters, weights, precision="float64")
    assert potential.num_parameters == hyperparameters["num_parameters"]
    count = len({key.split(separator)[0] for key in expected})
    references = [with_prefix(expected, f"{i}{separator}") for i in range(count)]
    structures = [as_structure(reference) for reference in references]
    predictions = predict_together(potential, structures)
    for reference, prediction in zip(references, predictions, strict=True):
        close = np.testing.assert_allclose
        close(prediction.energy, reference["energy"][0], rtol=0, atol=GOLDEN.energy)
        close(prediction.energies, reference["node_energy"], rtol=0, atol=GOLDEN.node_energy)
        close(prediction.forces, reference["forces"], rtol=0, atol=GOLDEN.forces)
        if "stress" in reference:
            close(prediction.stress, reference["stress"], rtol=0, atol=GOLDEN.stress)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_golden_values(name):
    arrays = load_file(FOLDER / f"{name}.safetensors")
    weights = with_prefix(arrays, "weights/")
    expected = {key: value for key, value in arrays.items() if not key.startswith("weights/")}
    check(json.loads((FOLDER / f"{name}.json").read_text()), weights, expected, "/")


@pytest.mark.parametrize("name", SHARED)
def test_reference_values(shared, name):
    folder = shared / "reference"
    hyperparameters = json.loads((folder / f"{name}.json").read_text())
    weights = load_file(folder / f"{name}.weights.safetensors")
    check(hyperparameters, weights, load_file(folder / f"{name}.expected.safetensors"), ".")


def load_published(shared, name):
    path = shared / "pretrained" / name
    hyperparameters = json.loads(path.with_suffix(".json").read_text())
    return from_torch_weights(hyperparameters, dict(np.load(path.with_suffix(".npz"))))


def test_published_weights(shared):
    """With the names of the constructor's arguments, all buffers, and options switched off."""
    name = "mace_tutorial_hco/imagdau_mace01_swa"
    potential = load_published(shared, name)
    references = dict(np.load(shared / "pretrained" / f"{name}.ref.npz"))
    chosen = [with_prefix(references, f"{i}/") for i in range(3)]
    predictions = predict_together(potential, [as_structure(found) for found in chosen])
    for expected, found in zip(chosen, predictions, strict=True):
        close = np.testing.assert_allclose
        close(found.energy, expected["energy"].item(), rtol=0, atol=GOLDEN.energy)
        close(found.energies, expected["node_energy"], rtol=0, atol=GOLDEN.node_energy)
        close(found.forces, expected["forces"], rtol=0, atol=GOLDEN.forces)


def test_published_weights_in_single_precision(shared):
    """Their constants are rounded."""
    potential = load_published(shared, "mace_spice/openmm_MACE_SPICE")
    assert (len(potential.elements), potential.config.scale) == (15, 1.0780409574508667)


def test_edges_are_counted_alike():
    """Both neighbour lists find the same pairs, small cells and mixed periodicity included."""
    arrays = load_file(FOLDER / "residual_l1.safetensors")
    cutoff = json.loads((FOLDER / "residual_l1.json").read_text())["r_max"]
    for i in range(5):
        reference = with_prefix(arrays, f"{i}/")
        pairs = neighbor_list(as_structure(reference), cutoff)
        assert len(pairs.senders) == reference["num_edges"][0]
