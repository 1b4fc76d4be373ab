"""The saved model: one zip file with configuration, weights and metadata, and no pickle.

`NAME.mlip` holds

- `config.yaml`: the model's configuration,
- `weights.safetensors`: trainable arrays by their path in the model
  (`layers.0.linear.weights.1`),
- `metadata.json`: format_version, elements, cutoff, units, E0, precision, provenance,
- `fits.safetensors`: decompositions that were fitted for the model, where it has such.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import yaml
from ase.data import atomic_numbers, chemical_symbols
from flax import nnx
from pydantic import ValidationError

from mlip.errors import MlipError
from mlip.models import MODEL_CONFIGS, build_model, fits_of
from mlip.potential import Potential
from mlip.tensor_products.cp_decomposition import CPFactors
from mlip.tensor_products.cp_fits import adopt, recorded

FORMAT_VERSION = 1
FITS = "fits.safetensors"
DAMAGE = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    yaml.YAMLError,
    safetensors.SafetensorError,
)
UNITS = {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}


def save(potential: Potential, path: str | os.PathLike[str]) -> Path:
    """Write a potential to one file, replacing it only once it is complete.

    Args:
        potential: what to save.
        path: the file; its folder must exist.

    Raises:
        MlipError: if the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    members: dict[str, str | bytes] = {
        "config.yaml": _config_yaml(potential),
        "weights.safetensors": safetensors.numpy.save(_weights(potential)),
        "metadata.json": json.dumps(_metadata(potential), indent=1),
    }
    if fits := _fits(potential):
        members[FITS] = safetensors.numpy.save(fits)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MlipError(
            f"cannot write the model to {target}: {error.strerror}; "
            "free space or choose a folder you may write to."
        ) from error
    return target


def load(path: str | os.PathLike[str]) -> Potential:
    """Read a potential written by `save`, of this or an older format version.

    Args:
        path: the file.

    Raises:
        MlipError: if the file is missing, damaged, or of a newer format version.
    """
    source = Path(path)
    if not source.is_file():
        raise MlipError(f"there is no model file {source}; give the path of a NAME.mlip.")
    try:
        with zipfile.ZipFile(source) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            config = yaml.safe_load(archive.read("config.yaml"))
            weights = safetensors.numpy.load(archive.read("weights.safetensors"))
            fits = _read_fits(archive)
    except DAMAGE as error:
        raise _incomplete(source, error) from error
    version = metadata.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise MlipError(
            f"{source} has format version {version}, this program reads 1 to {FORMAT_VERSION}; "
            "install a newer jax-mlip."
        )
    try:
        return _rebuild(source, config, weights, metadata, fits)
    except (KeyError, ValidationError) as error:
        raise MlipError(
            f"{source}: its metadata.json or config.yaml is not complete ({error}); "
            "copy or train it again."
        ) from error


def adopt_fits(path: str | os.PathLike[str]) -> None:
    """Let what is built from now on use the fits of a saved model, as its weights expect.

    Args:
        path: the file.

    Raises:
        MlipError: if the file is damaged, or where another fit of the same name is in use.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            fits = _read_fits(archive)
    except DAMAGE as error:
        raise _incomplete(path, error) from error
    adopt(fits, path)


def _incomplete(path: str | os.PathLike[str], error: Exception) -> MlipError:
    return MlipError(f"{path} is not a complete .mlip file ({error}); copy or train it again.")


def _read_fits(archive: zipfile.ZipFile) -> dict[str, CPFactors]:
    if FITS not in archive.namelist():
        return {}
    factors = safetensors.numpy.load(archive.read(FITS))
    names = {key.rpartition(".")[0] for key in factors}
    return {
        name: CPFactors(*(factors[f"{name}.{slot}"] for slot in CPFactors._fields))
        for name in names
    }


def _rebuild(
    source: Path,
    config: dict[str, Any],
    weights: dict[str, np.ndarray],
    metadata: dict[str, Any],
    fits: dict[str, CPFactors],
) -> Potential:
    if config.get("name") not in MODEL_CONFIGS:
        raise MlipError(
            f"{source} holds a model of kind {config.get('name')}, known are "
            f"{', '.join(MODEL_CONFIGS)}; install a newer jax-mlip."
        )
    precision = metadata["precision"]
    adopt(fits, source)
    with (
        jax.enable_x64(precision == "float64" or bool(jax.config.jax_enable_x64)),
        recorded() as used,
    ):
        settings = MODEL_CONFIGS[config["name"]].model_validate(config)
        model = build_model(settings, rngs=nnx.Rngs(0), dtype=jnp.dtype(precision))
        _assign(source, model, weights)
    if missing := sorted(used.keys() - fits.keys()):
        raise MlipError(
            f"{source}: the cp decomposition {missing[0]}, which is fitted for each model, is not "
            "in the file, and a new fit may differ; save or train the model again."
        )
    e0 = {atomic_numbers[symbol]: energy for symbol, energy in metadata["e0"].items()}
    return Potential(
        model,
        elements=[atomic_numbers[symbol] for symbol in metadata["elements"]],
        e0=e0,
        precision=precision,
        metadata=metadata["provenance"],
    )


def _assign(source: Path, model: nnx.Module, weights: dict[str, np.ndarray]) -> None:
    params = dict(_named_params(model))
    if set(params) != set(weights):
        odd = sorted(set(params) ^ set(weights))[0]
        raise MlipError(f"{source}: its weights do not fit its config.yaml (first: {odd}).")
    for name, param in params.items():
        array = weights[name]
        if param.shape != array.shape:
            raise MlipError(f"{source}: {name} has shape {array.shape}, expected {param.shape}.")
        param[...] = jnp.asarray(array)


def _named_params(model: nnx.Module) -> list[tuple[str, nnx.Param]]:
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return [(".".join(str(key) for key in path), param) for path, param in state]


def _weights(potential: Potential) -> dict[str, np.ndarray]:
    return {name: np.asarray(param[...]) for name, param in _named_params(potential.model)}


def _fits(potential: Potential) -> dict[str, np.ndarray]:
    return {
        f"{name}.{slot}": factor
        for name, factors in fits_of(potential.config).items()
        for slot, factor in factors._asdict().items()
    }


def _config_yaml(potential: Potential) -> str:
    return yaml.safe_dump(potential.config.model_dump(mode="json"), sort_keys=False)


def _metadata(potential: Potential) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "elements": [chemical_symbols[z] for z in potential.elements],
        "cutoff": potential.cutoff,
        "units": UNITS,
        "e0": {chemical_symbols[z]: energy for z, energy in potential.e0.items()},
        "precision": potential.precision,
        "provenance": potential.metadata,
    }
