"""A tiny labelled data set and the overrides of runs that take seconds."""

import ase
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.cli.main import main
from tests.support.training import E0, clusters

TINY = [
    "model={name: mace, channels: 4, hidden_lmax: 0, lmax: 0, correlation: 1, num_layers: 1, "
    "radial_mlp: [4], num_bessel: 4, cutoff: 4.0}",
    "trainer.batch_size=4",
    "trainer.max_epochs=2",
    "schedule.warmup_steps=0",
]


def labelled(structure):
    atoms = ase.Atoms(structure.numbers, structure.positions)
    atoms.calc = SinglePointCalculator(atoms, energy=structure.energy, forces=structure.forces)
    return atoms


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """`train.xyz` (16 clusters), `test.xyz` (6), `atoms.xyz` and `start.xyz`."""
    folder = tmp_path_factory.mktemp("data")
    write(folder / "train.xyz", [labelled(s) for s in clusters(16)])
    write(folder / "test.xyz", [labelled(s) for s in clusters(6, seed=1)])
    isolated = [ase.Atoms([number]) for number in E0]
    for atoms, energy in zip(isolated, E0.values(), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    write(folder / "atoms.xyz", isolated)
    write(folder / "start.xyz", labelled(clusters(1, seed=2)[0]))
    return folder


@pytest.fixture(scope="session")
def train_words(data_folder):
    """`mlip train` on the data, without a run folder."""
    return [
        "train",
        *TINY,
        f"dataset.root={data_folder}",
        "dataset.train=train.xyz",
        "dataset.tests={hot: test.xyz}",
        "dataset.isolated_atoms=atoms.xyz",
    ]


@pytest.fixture(scope="session")
def trained(train_words, tmp_path_factory):
    """Folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main([*train_words, f"run.dir={folder}"]) == 0
    return folder
