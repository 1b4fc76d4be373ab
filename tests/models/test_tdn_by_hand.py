"""A whole TDN at degree 1 against a plain evaluation in numpy, atom by atom and edge by edge."""

from math import sqrt

import numpy as np
from flax import nnx

from tests.support.potentials import molecule, outputs, potential_of, tdn_config
from tests.tolerances import FLOAT64

HEADS = 2
CONFIG = tdn_config(num_heads=HEADS)


def silu(x):
    return x / (1 + np.exp(-x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalised(x):
    return (x - x.mean()) / np.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)


class ByHand:
    """Features of an atom are arrays (4, channels): the scalar, then x, y and z of the vector."""

    def __init__(self, model):
        self.weights = {
            ".".join(map(str, path)): np.asarray(value.get_value())
            for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))
        }

    def linear(self, name, x):
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        y = x @ weight / sqrt(len(weight))
        if bias is not None:
            y[0] += bias
        return y

    def gated(self, name, x):
        y = self.linear(name, x)
        kept, gates = np.split(y, 2, axis=1)
        return np.concatenate([silu(kept[:1]), kept[1:] * sigmoid(gates[:1])])

    def norm(self, name, x):
        scale, bias = self.weights[f"{name}.scale"], self.weights[f"{name}.bias"]
        centred = np.concatenate([x[:1] - x[0].mean(), x[1:]])
        size = np.sqrt((np.mean(centred[0] ** 2) + np.mean(centred[1:] ** 2)) / 2 + 1e-5)
        y = centred / size * scale[[0, 1, 1, 1]]
        y[0] += bias
        return y

    def radial(self, name, r):
        t = self.weights["radial_basis.slope"] * r / CONFIG.cutoff
        t = t + self.weights["radial_basis.offset"]
        width = np.abs(self.weights["radial_basis.width"]) + 1e-5
        x = np.exp(-(((t - self.weights["radial_basis.center"]) / width) ** 2) / 2)
        x = x / (sqrt(2 * np.pi) * width)
        first, last = (self.weights[f"{name}.weights.{index}"] for index in (0, 1))
        x = normalised(x @ first / sqrt(len(first)) + self.weights[f"{name}.biases.0"])
        norm = [self.weights[f"{name}.norms.0.{part}"] for part in ("scale", "bias")]
        x = silu(x * norm[0][0] + norm[1])
        return envelope(r) * (x @ last / sqrt(len(last)) + self.weights[f"{name}.offset"])

    def energy(self, structure):
        numbers, positions = structure.numbers, structure.positions
        vectors = positions[None] - positions[:, None]  # from receiver to sender
        r = np.linalg.norm(vectors, axis=-1)
        close = (r > 0) & (r < CONFIG.cutoff)
        near = [np.flatnonzero(row) for row in close]
        directions = vectors / np.where(r > 0, r, 1.0)[..., None]
        y = np.concatenate([np.ones((*r.shape, 1)), sqrt(3) * directions], axis=2)
        x = [self.start(i, numbers[i], near[i], r, y) for i in range(len(r))]
        for index in range(CONFIG.num_layers):
            name = f"layers.{index}"
            normed = [self.norm(f"{name}.attention_norm", one) for one in x]
            x = [
                one + self.attention(f"{name}.attention", i, normed, near[i], r, y)
                for i, one in enumerate(x)
            ]
            normed = [self.norm(f"{name}.feed_forward_norm", one) for one in x]
            x = [
                one + self.linear(f"{name}.linear", self.gated(f"{name}.gate", other))
                for one, other in zip(x, normed, strict=True)
            ]
        scalars = [self.norm("norm", one)[:1] for one in x]
        hidden = [silu(self.linear("energy_head.hidden", one)) for one in scalars]
        return [
            CONFIG.scale * self.linear("energy_head.out", one)[0, 0] + CONFIG.shift
            for one in hidden
        ]

    def start(self, i, number, near, r, y):
        one = np.ones((1, CONFIG.channels))
        constant, name = self.linear("degree_embedding.constant", one)[0], "degree_embedding"
        total = np.zeros((4, CONFIG.channels))
        for j in near:
            message = y[i, j][:, None] * constant * self.radial(f"{name}.radial_mlp", r[i, j])
            total += self.linear(f"{name}.linear", message)
            total[0] += envelope(r[i, j]) * self.weights[f"{name}.bias"]
        total /= sqrt(CONFIG.avg_num_neighbors)
        table = self.weights["atom_embedding.table"][CONFIG.elements.index(number)]
        total[0] += table + self.weights["atom_embedding.bias"]
        return total

    def attention(self, name, i, x, near, r, y):
        receiver = self.linear(f"{name}.from_receiver", x[i])
        values, strengths = [], []
        for j in near:
            weight = self.radial(f"{name}.radial_mlp", r[i, j])
            pair = self.linear(f"{name}.from_sender", x[j]) + receiver
            message = multiplied(pair, y[i, j]) * weight
            keys = self.linear(f"{name}.score_linear", message[:1])
            keys = (0.6 * keys + 0.4 * keys * (2 * sigmoid(keys) - 1)).reshape(HEADS, -1)
            scores = np.sum(keys * self.weights[f"{name}.score"], axis=1) / sqrt(keys.shape[1])
            strengths.append(envelope(r[i, j]) * np.exp(scores))
            values.append(multiplied(self.gated(f"{name}.value", message), y[i, j]) * weight)
        shares = np.array(strengths) / (1 + np.sum(strengths, axis=0))
        by_channel = np.repeat(shares, CONFIG.channels // HEADS, axis=1)
        summed = sum(v * share for v, share in zip(values, by_channel, strict=True))
        return self.linear(f"{name}.linear", summed)


def envelope(r):
    x, p = r / CONFIG.cutoff, CONFIG.envelope_power
    return 1 - x**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x**2)


def multiplied(x, y):
    """The even couplings of degree 1: two that end in each degree, of unit variance together."""
    scalar = x[0] * y[0] + y[1:] @ x[1:] / sqrt(3)
    vector = x[:1] * y[1:, None] + x[1:] * y[0]
    return np.concatenate([scalar[None], vector]) / sqrt(2)


def test_energies_of_the_atoms():
    potential = potential_of(CONFIG, seed=5)
    model = potential.model
    rng = np.random.default_rng(0)  # of parameters that start at zero or one, too
    for _, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        value[...] = value[...] + 0.3 * rng.normal(size=value[...].shape)
    one = molecule(2, 5)
    (found,) = outputs(potential.with_state(nnx.state(model)), [one])
    expected = ByHand(model).energy(one)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found.node_energy, expected, rtol=0, atol=FLOAT64.node_energy)
