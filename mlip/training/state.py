"""`TrainState` (on the device) and `Bookkeeping` (on the host): all that an exact resume needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Int, PyTree

from mlip.errors import MlipError


@flax.struct.dataclass
class TrainState:
    """What a training step changes.

    Attributes:
        params: weights by name.
        ema: their running average.
        optimizer: state of the optimiser.
        step: steps done.
        failed: true once a loss or gradient was not finite; nothing changes from then on.
    """

    params: dict[str, Array]
    ema: dict[str, Array]
    optimizer: optax.OptState
    step: Int[Array, ""]
    failed: Bool[Array, ""]


@dataclass
class Bookkeeping:
    """Where a run stands, apart from its arrays.

    Attributes:
        epoch: passes over the data completed.
        batch: batches of the current pass that are done.
        step: optimiser steps done.
        seconds: wall-clock seconds trained, over all resumes.
        stage: 1, or 2 in the second stage.
        validation_due: the weights of this step are still to be validated.
        validated_step: step of the last validation, -1 before the first.
        validation_seconds: duration of the last validation.
        best_loss: lowest validation loss of this stage.
        best_step: step of `best_loss`.
        waited: validations since `best_loss`.
        plateau_scale: product of the plateau schedule's reductions.
        plateau_loss: validation loss the plateau schedule compares with.
        plateau_waited: validations since `plateau_loss` or the last reduction.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    stage: int = 1
    validation_due: bool = True
    validated_step: int = -1
    validation_seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    waited: int = 0
    plateau_scale: float = 1.0
    plateau_loss: float | None = None
    plateau_waited: int = 0


class SplitModel:
    """A model taken apart once: structure, trainable weights by name, and constants.

    Args:
        model: any `nnx.Module`; its `nnx.Param`s are trained.
    """

    def __init__(self, model: nnx.Module) -> None:
        # mypy takes the Ellipsis among nnx's filters for a type.
        graphdef, state, constants = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
        self.graphdef: nnx.GraphDef[Any] = graphdef
        self.constants: PyTree = constants
        flat, self._treedef = jax.tree_util.tree_flatten_with_path(state)
        self.names = [_name(path) for path, _ in flat]
        self.params: dict[str, Array] = {
            name: leaf for name, (_, leaf) in zip(self.names, flat, strict=True)
        }

    def merge(self, params: Mapping[str, Array], constants: PyTree) -> nnx.Module:
        """The model with these weights and constants."""
        leaves = [params[name] for name in self.names]
        return nnx.merge(self.graphdef, jax.tree.unflatten(self._treedef, leaves), constants)

    def decay_mask(self, model: Any) -> dict[str, bool]:
        """Which weights decay: those that the model declares by `decay_mask()`, else matrices.

        Left to itself weight decay shrinks the maps, not biases, scales and centres of functions.
        """
        if not hasattr(model, "decay_mask"):
            return {name: value.ndim > 1 for name, value in self.params.items()}
        mask = jax.tree.leaves(model.decay_mask())
        return {name: bool(leaf) for name, leaf in zip(self.names, mask, strict=True)}


def initial_state(
    params: Mapping[str, Array], optimizer: optax.GradientTransformationExtraArgs
) -> TrainState:
    """The state before the first step; the arrays are copies, safe to donate."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        opt_state = optimizer.init(dict(params))
    state = TrainState(
        params=dict(params),
        ema=dict(params),
        optimizer=opt_state,
        step=jnp.zeros((), jnp.int32),
        failed=jnp.zeros((), bool),
    )
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)


def to_host(state: TrainState) -> dict[str, np.ndarray]:
    """The arrays of a state by name, copied, since the device buffers are reused."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    values = jax.device_get([leaf for _, leaf in flat])
    return {_name(path): np.array(value) for (path, _), value in zip(flat, values, strict=True)}


def from_host(template: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
    """Undo `to_host`.

    Args:
        template: a state of the same structure.
        arrays: values by name.

    Raises:
        MlipError: when names, shapes or types differ.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(template)
    leaves = []
    for path, leaf in flat:
        value = arrays.get(_name(path))
        expected = f"{leaf.dtype}{list(leaf.shape)}"
        if value is None or value.shape != leaf.shape or value.dtype != leaf.dtype:
            found = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
            raise MlipError(
                f"the checkpoint holds {found} for {_name(path)!r}, this run needs {expected}; "
                "it was written by another model: choose another run name."
            )
        leaves.append(jnp.array(value, copy=True))
    return jax.tree.unflatten(treedef, leaves)


def _name(path: tuple[Any, ...]) -> str:
    """`layers.0.weight` from a tree path; the wrapper of an nnx variable adds nothing."""
    keys = [key for key in path if getattr(key, "name", None) != "value"]
    return jax.tree_util.keystr(tuple(keys), simple=True, separator=".")
