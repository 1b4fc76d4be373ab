"""Small structures and files for the tests of the data path."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.data.structure import Structure

E0 = {1: -13.0, 8: -2040.0}


@pytest.fixture
def make_water() -> Callable[..., Atoms]:
    """A labelled, randomly distorted water molecule with forces that add up to zero."""

    def make(seed: int = 0, **info: object) -> Atoms:
        generator = np.random.default_rng(seed)
        positions = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
        positions += generator.normal(scale=0.05, size=(3, 3))
        forces = generator.normal(size=(3, 3))
        forces -= forces.mean(axis=0)
        water = Atoms("OH2", positions)
        energy = E0[8] + 2 * E0[1] - 9.0 + float(generator.normal(scale=0.1))
        water.calc = SinglePointCalculator(water, energy=energy, forces=forces)
        water.info.update(info)
        return water

    return make


@pytest.fixture
def make_isolated() -> Callable[..., list[Atoms]]:
    """Isolated-atom frames."""

    def make() -> list[Atoms]:
        frames = []
        for number, energy in E0.items():
            atom = Atoms([number], np.zeros((1, 3)), info={"config_type": "IsolatedAtom"})
            atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
            frames.append(atom)
        return frames

    return make


@pytest.fixture
def waters_file(tmp_path: Path, make_water: Callable, make_isolated: Callable) -> Path:
    """Twelve waters preceded by the isolated atoms."""
    path = tmp_path / "waters.xyz"
    write(path, [*make_isolated(), *(make_water(seed) for seed in range(12))])
    return path


@pytest.fixture
def make_cluster() -> Callable[..., Structure]:
    """A random structure of well-separated atoms, periodic along the given axes."""

    def make(
        count: int, seed: int = 0, pbc: tuple[bool, bool, bool] = (False, False, False)
    ) -> Structure:
        generator = np.random.default_rng(seed)
        side = int(np.ceil(count ** (1 / 3)))
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
        chosen = generator.permutation(len(grid))[:count]
        positions = 1.8 * grid[chosen] + generator.uniform(-0.3, 0.3, size=(count, 3))
        cell = 1.8 * side * np.eye(3) + generator.uniform(-0.2, 0.2, size=(3, 3))
        forces = generator.normal(size=(count, 3))
        return Structure(
            numbers=generator.choice([1, 8], size=count).astype(np.int32),
            positions=positions,
            cell=cell if any(pbc) else np.zeros((3, 3)),
            pbc=np.array(pbc),
            energy=float(generator.normal()),
            forces=forces - forces.mean(axis=0),
            identifier=f"cluster#{seed}",
        )

    return make
