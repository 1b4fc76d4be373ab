"""What `fit` takes and what it gives back."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flax import nnx

from mlip.data.collate import BatchShape
from mlip.graph import Graph, Labels
from mlip.training.step import Compilation


class TrainingBatch(Protocol):
    """A batch as `mlip.data.pipeline` makes them."""

    @property
    def graph(self) -> Graph:
        """The structures."""
        ...

    @property
    def labels(self) -> Labels:
        """Their labels."""
        ...

    @property
    def identifiers(self) -> Sequence[str]:
        """Their names."""
        ...

    @property
    def skipped(self) -> Sequence[str]:
        """Faults of records that were left out before this batch."""
        ...


class BatchSource(Protocol):
    """Batches in an order that depends on the epoch alone."""

    shapes: list[BatchShape]

    @property
    def padding_share(self) -> float:
        """Share of the edge slots that is padding."""
        ...

    def __len__(self) -> int:
        """Batches of an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """The batches of an epoch from number `start` on."""
        ...

    def stream(
        self, epoch: int, start: int = 0
    ) -> Generator[tuple[TrainingBatch, bool], None, None]:
        """The batches from a position on, epoch after epoch, each with whether it ends one."""
        ...


class Timing(NamedTuple):
    """Where the time went.

    Attributes:
        seconds: of the whole run, earlier parts of a resumed run included.
        train_step_ms: median time of a training step in this process, None without any.
        compile_seconds: tracing and compiling in this process.
        validation_seconds: of all validations in this process.
        data_wait_share: share of the training steps' time spent waiting for data in this process,
            the first step left out; None without further steps.
    """

    seconds: float
    train_step_ms: float | None
    compile_seconds: float
    validation_seconds: float
    data_wait_share: float | None


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model with the chosen weights (averaged; best or last, as the settings say).
        step: optimiser steps done.
        epoch: passes over the data completed.
        stopped_by: max_epochs, max_steps, max_minutes or early_stopping.
        best_step: step of the lowest validation loss, None without validation.
        best_loss: that loss.
        history: rows of metrics.jsonl, earlier parts of a resumed run included.
        timing: where the time went.
        compilations: of this process.
        skipped_records: records left out since they cannot be used, counted each time.
    """

    model: nnx.Module
    step: int
    epoch: int
    stopped_by: str
    best_step: int | None
    best_loss: float | None
    history: list[dict[str, Any]]
    timing: Timing
    compilations: list[Compilation]
    skipped_records: int = 0
