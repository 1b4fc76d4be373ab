"""Saved models come back bit for bit, and damage is told in a sentence."""

import errno
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from mlip.cli.compose import compose
from mlip.cli.schema import SCHEMAS
from mlip.cli.validate import validate
from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.io.saved_model import FITS, FORMAT_VERSION, adopt_fits, load, save
from mlip.tensor_products import cp, cp_fits
from tests.support.potentials import (
    escn_config,
    mace_config,
    molecule,
    nequip_config,
    potential_of,
    tdn_config,
)
from tests.tolerances import FLOAT64

FIXTURES = Path(__file__).resolve().parent / "fixtures"
CONFIG = mace_config(channels=2, radial_mlp=(4,))
OTHERS = [
    nequip_config(),
    tdn_config(one_hot=9, avg_num_atoms=7.0),
    tdn_config(convolution={"name": "cp", "rank": "paper", "paths": "all"}, forces="direct"),
    escn_config(),
]


@pytest.fixture(scope="module")
def potential():
    return potential_of(CONFIG)


@pytest.fixture
def saved(potential, tmp_path):
    return save(potential, tmp_path / "model.mlip")


def rewrite(path, **changes):
    """Replace members of the archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | changes).items():
            archive.writestr(name, content)


def member(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def weights_of(potential):
    return jax.tree.leaves(nnx.state(potential.model, nnx.Param))


@pytest.mark.parametrize(
    ("config", "precision"),
    [(CONFIG, "float32"), (CONFIG, "float64"), *((config, "float32") for config in OTHERS)],
    ids=lambda value: getattr(value, "name", value),
)
def test_round_trip_is_exact(tmp_path, config, precision):
    original = potential_of(config, precision, seed=3)
    original.metadata["data"] = "water"
    loaded = load(save(original, tmp_path / "model.mlip"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.mlip"]
    for one, other in zip(weights_of(loaded), weights_of(original), strict=True):
        assert one.dtype == other.dtype == np.dtype(precision)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for attribute in ("config", "elements", "e0", "precision", "metadata"):
        assert getattr(loaded, attribute) == getattr(original, attribute)


def test_loaded_potential_predicts_the_same_bits(potential, saved):
    structure = [molecule(0)]
    before, after = potential.predict(structure)[0], load(saved).predict(structure)[0]
    assert before.energy == after.energy
    np.testing.assert_array_equal(before.forces, after.forces)


def test_file_of_format_1_is_still_read():
    """The file is never made anew: it stands for the files that users have."""
    potential = load(FIXTURES / "format_1.mlip")
    expected = json.loads((FIXTURES / "format_1.json").read_text())
    structures = [
        Structure(
            np.array(each["numbers"], np.int32),
            np.array(each["positions"]),
            np.array(each["cell"]),
            np.array(each["pbc"]),
        )
        for each in expected
    ]
    for each, prediction in zip(expected, potential.predict(structures), strict=True):
        np.testing.assert_allclose(prediction.energy, each["energy"], atol=FLOAT64.energy, rtol=0)
        np.testing.assert_allclose(prediction.forces, each["forces"], atol=FLOAT64.forces, rtol=0)


@pytest.fixture
def with_a_fit(tmp_path, monkeypatch):
    """A saved model whose decomposition was fitted on another machine; and its forces there."""
    monkeypatch.setattr(cp_fits, "_known", {})
    config = mace_config(
        num_layers=1, channels=2, convolution={"name": "cp", "rank": 3, "paths": "all"}
    )
    there = potential_of(config)
    (forces,) = [one.forces for one in there.predict([molecule(0)])]
    path = save(there, tmp_path / "model.mlip")
    monkeypatch.setattr(cp_fits, "_known", {})
    monkeypatch.setattr(cp, "SEEDS", [17])  # stands for another machine
    return path, forces


def test_a_fitted_decomposition_comes_with_the_model(with_a_fit, tmp_path):
    path, forces = with_a_fit
    again = load(save(load(path), tmp_path / "again.mlip"))
    np.testing.assert_array_equal(again.predict([molecule(0)])[0].forces, forces)
    assert member(tmp_path / "again.mlip", FITS) == member(path, FITS)


def test_a_training_that_goes_on_from_a_model_takes_its_fit(with_a_fit):
    path, _ = with_a_fit
    validate(SCHEMAS["train"], compose("train", ["dataset=quickstart", f"init_from={path}"]))
    load(path)


def test_only_a_fitted_decomposition_is_stored(saved):
    with zipfile.ZipFile(saved) as archive:
        assert FITS not in archive.namelist()


def test_a_fit_beside_another_of_the_same_name_is_refused(with_a_fit):
    path, _ = with_a_fit
    cp.cp_factors(0, 1, 1, "all", 3)
    with pytest.raises(MlipError, match=r"model\.mlip was trained with another fit .* all_0_1_1_3"):
        load(path)


def test_a_file_without_the_whole_fit_that_it_needs_is_refused(with_a_fit):
    path, _ = with_a_fit
    rewrite(path, **{FITS: b"damaged"})
    for read in (load, adopt_fits):
        with pytest.raises(MlipError, match=r"not a complete \.mlip file"):
            read(path)
    rewrite(path, **{FITS: safetensors.numpy.save({})})
    with pytest.raises(MlipError, match=r"decomposition all_0_1_1_3, .* is not in the file"):
        load(path)


def test_missing_file(tmp_path):
    with pytest.raises(MlipError, match=r"no model file .*absent\.mlip"):
        load(tmp_path / "absent.mlip")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_truncated_file(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(MlipError, match=r"model\.mlip is not a complete \.mlip file"):
        load(saved)


def test_flipped_bits_in_the_weights(saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 0xFF
    saved.write_bytes(content)
    with pytest.raises(MlipError, match=r"not a complete \.mlip file"):
        load(saved)


def test_file_without_weights(saved):
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(MlipError, match=r"not a complete \.mlip file"):
        load(saved)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None])
def test_format_of_the_future(saved, version):
    metadata = json.loads(member(saved, "metadata.json")) | {"format_version": version}
    rewrite(saved, **{"metadata.json": json.dumps(metadata)})
    with pytest.raises(MlipError, match=f"format version {version}.*install a newer"):
        load(saved)


def test_unknown_model(saved):
    config = member(saved, "config.yaml").replace(b"name: mace", b"name: spice")
    rewrite(saved, **{"config.yaml": config})
    with pytest.raises(MlipError, match="a model of kind spice, known are mace"):
        load(saved)


def test_weights_of_another_shape(saved):
    config = member(saved, "config.yaml").replace(b"channels: 2", b"channels: 3")
    rewrite(saved, **{"config.yaml": config})
    with pytest.raises(MlipError, match=r"has shape .*, expected"):
        load(saved)


def test_weights_of_another_model(saved):
    weights = safetensors.numpy.load(member(saved, "weights.safetensors"))
    weights.pop("embedding")
    rewrite(saved, **{"weights.safetensors": safetensors.numpy.save(weights)})
    with pytest.raises(MlipError, match=r"do not fit its config\.yaml .*embedding"):
        load(saved)


def test_full_disk_keeps_the_old_file(potential, saved, monkeypatch):
    before = saved.read_bytes()

    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", no_space)
    with pytest.raises(MlipError, match="No space left on device; free space"):
        save(potential, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.mlip"]


def test_folder_that_does_not_exist(potential, tmp_path):
    with pytest.raises(MlipError, match=r"cannot write the model to .*absent"):
        save(potential, tmp_path / "absent" / "model.mlip")


@pytest.mark.parametrize("missing", ["precision", "e0", "elements", "provenance"])
def test_metadata_without_an_entry(saved, missing):
    metadata = json.loads(member(saved, "metadata.json"))
    del metadata[missing]
    rewrite(saved, **{"metadata.json": json.dumps(metadata)})
    with pytest.raises(MlipError, match=missing):
        load(saved)


@pytest.mark.parametrize("config", ["name: [", "name: mace\nchanels: 3\n"])
def test_configuration_that_cannot_be_read(saved, config):
    rewrite(saved, **{"config.yaml": config})
    with pytest.raises(MlipError, match="copy or train it again"):
        load(saved)


def test_metadata_that_cannot_be_stored_leaves_no_file(tmp_path):
    potential = potential_of(CONFIG)
    potential.metadata["when"] = object()
    with pytest.raises(TypeError):
        save(potential, tmp_path / "model.mlip")
    assert not list(tmp_path.iterdir())
