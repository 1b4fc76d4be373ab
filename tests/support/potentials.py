"""Small potentials and structures, evaluated in one batch of one shape."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mlip.data.collate import BatchShape, collate
from mlip.data.neighbors import neighbor_list
from mlip.data.structure import Structure
from mlip.models import build_model
from mlip.models.escn import ESCNConfig
from mlip.models.mace import MACEConfig
from mlip.models.nequip import NequIPConfig
from mlip.models.tdn import TDNConfig
from mlip.nn.geometry import edge_vectors
from mlip.potential import Potential

ELEMENTS = (1, 6, 8)
E0 = {1: -13.5, 6: -1030.0, 8: -2041.0}
SHAPE = BatchShape(graphs=48, nodes=224, blocks=448, width=16)


def mace_config(**changes):
    small = {
        "elements": ELEMENTS,
        "cutoff": 3.0,
        "channels": 4,
        "hidden_lmax": 1,
        "lmax": 1,
        "correlation": 2,
        "num_bessel": 4,
        "radial_mlp": (8,),
        "readout_mlp": 4,
        "avg_num_neighbors": 5.0,
        "scale": 1.3,
        "shift": -0.2,
    }
    return MACEConfig(**(small | changes))


def nequip_config(**changes):
    """Everything that can vary: channels by degree, one map and one scale for each element."""
    small = {
        "elements": ELEMENTS,
        "cutoff": 3.0,
        "channels": (4, 2),
        "lmax": 1,
        "num_layers": 3,  # the second is between layers of all degrees
        "num_bessel": 4,
        "radial_mlp": (8,),
        "layer_norm": True,
        "scale_shift": "element",
        "avg_num_neighbors": 5.0,
        "scale": 1.3,
        "shift": -0.2,
    }
    return NequIPConfig(**(small | changes))


def tdn_config(**changes):
    small = {
        "elements": ELEMENTS,
        "cutoff": 3.0,
        "channels": 4,
        "lmax": 1,
        "num_layers": 2,
        "num_heads": 2,
        "num_gaussians": 4,
        "radial_mlp": (8,),
        "avg_num_neighbors": 5.0,
        "scale": 1.3,
        "shift": -0.2,
    }
    return TDNConfig(**(small | changes))


def escn_config(**changes):
    small = {
        "elements": ELEMENTS,
        "cutoff": 3.0,
        "channels": 8,
        "message_channels": 4,
        "hidden_channels": 6,
        "lmax": 2,
        "mmax": 1,
        "num_bessel": 4,
        "element_channels": 2,
        "radial_mlp": (8,),
        "readout_mlp": 4,
        "avg_num_neighbors": 5.0,
        "scale": 1.3,
        "shift": -0.2,
    }
    return ESCNConfig(**(small | changes))


def potential_of(config, precision="float64", seed=0):
    model = build_model(config, rngs=nnx.Rngs(seed), dtype=jnp.dtype(precision))
    e0 = {z: E0.get(z, 0.0) for z in config.elements}
    return Potential(model, elements=config.elements, e0=e0, precision=precision)


def molecule(seed=0, atoms=5, elements=ELEMENTS):
    """A cluster of atoms on a distorted grid, without symmetry."""
    rng = np.random.default_rng(seed)
    grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])[:atoms]
    positions = 1.3 * grid + rng.normal(scale=0.15, size=(atoms, 3))
    numbers = np.resize(np.array(elements), atoms).astype(np.int32)
    return Structure(numbers, positions)


def crystal(pbc=(True, True, True), seed=0):
    """Two atoms in a sheared cell, shorter than the cutoff."""
    cell = np.array([[2.6, 0.0, 0.0], [0.7, 2.5, 0.0], [-0.4, 0.9, 2.8]])
    offset = np.random.default_rng(seed).normal(scale=0.05, size=3)
    positions = np.array([[0.1, 0.2, 0.0], [1.3, 1.5, 1.4]])
    positions[1] += offset
    return Structure(np.array([6, 8], np.int32), positions, cell, np.array(pbc))


def moved(structure, positions, cell=None):
    """The same atoms elsewhere."""
    cell = structure.cell if cell is None else cell
    return Structure(structure.numbers, positions, cell, structure.pbc)


def outputs(potential, structures, shape=SHAPE):
    """`Output` of each structure on the host, from one batch of a fixed shape."""
    pairs = [neighbor_list(structure, potential.cutoff) for structure in structures]
    graph = collate(structures, pairs, potential.elements, shape, potential.dtype)
    output = potential.evaluate_graph(graph)
    node_energy, energy, forces = (np.asarray(value) for value in output[:3])
    stress = [None] * shape.graphs if output.stress is None else np.asarray(output.stress)
    results, start = [], 0
    for index, structure in enumerate(structures):
        atoms = slice(start, start + len(structure))
        results.append(
            type(output)(node_energy[atoms], energy[index], forces[atoms], stress[index])
        )
        start += len(structure)
    assert not np.any(node_energy[start:]), "padded atoms have energy"
    assert not np.any(forces[start:]), "padded atoms have forces"
    return results


def energies(potential, structures, shape=SHAPE):
    """Interaction energy of each structure; without forces, which take longer to compile."""
    pairs = [neighbor_list(structure, potential.cutoff) for structure in structures]
    graph = collate(structures, pairs, potential.elements, shape, potential.dtype)
    graphdef, state = nnx.split(potential.model)
    return np.asarray(_energies(graphdef, state, graph))[: len(structures)]


@partial(jax.jit, static_argnums=0)
def _energies(graphdef, state, graph):
    node = nnx.merge(graphdef, state)(graph, edge_vectors(graph, graph.positions))
    return jax.ops.segment_sum(node, graph.node_graph, graph.num_graphs)
