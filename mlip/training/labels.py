"""Every term of the loss has labels to train on; checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from mlip.data.structure import Structure
from mlip.errors import MlipError
from mlip.training.loss import LossSettings
from mlip.training.plan import stage_weights
from mlip.training.settings import TrainerSettings

_NAMES = {"energy": "an energy", "forces": "forces", "stress": "a stress"}


def require_labels(
    train: Sequence[Structure],
    valid: Sequence[Structure],
    trainer: TrainerSettings,
    loss: LossSettings,
) -> None:
    """Refuse a loss whose terms have no labels.

    Args:
        train: training structures; every term with a weight needs a label in one of them.
        valid: validation structures; in each stage one of them needs a label with a weight.
        trainer: the weights of the second stage.
        loss: the weights of the first stage.

    Raises:
        MlipError: naming the weight without labels.
    """
    stages = ("loss", "trainer.second_stage")
    for stage, weights in zip(stages, stage_weights(trainer, loss), strict=False):
        terms = {name: weight for name, weight in weights._asdict().items() if weight}
        if not terms:
            raise MlipError(f"{stage} sets every loss weight to zero; give one that is not.")
        for name, weight in terms.items():
            if not any(getattr(s, name) is not None for s in train):
                option = f"{stage}.{name}_weight"
                raise MlipError(
                    f"{option}={weight:g} but none of the {len(train)} training frames has "
                    f"{_NAMES[name]}; name their label with dataset.keys.{name}, or set {option}=0."
                )
        if not any(getattr(s, name) is not None for s in valid for name in terms):
            raise MlipError(
                f"none of the {len(valid)} validation frames has a label that {stage} gives a "
                f"weight ({', '.join(terms)}), so that there is no validation loss; choose other "
                "validation frames with dataset.valid, valid_fraction or valid_count."
            )
