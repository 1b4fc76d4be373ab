"""What errors of a potential are too large for: units or a level of theory that do not fit it."""

from __future__ import annotations

import numpy as np

from mlip.training.evaluate import Evaluation

LARGEST_ERROR = 1000.0  # meV/atom, mean; what binds an atom is 1000 to 9000
CLEAR = 0.8  # correlation of predicted and labelled forces from which on a factor means something
RATIO = (0.2, 5.0)  # of predicted to labelled forces, still a matter of the potential's quality


def doubts(evaluation: Evaluation) -> list[str]:
    """One sentence for each subset whose labels probably do not belong to the potential.

    Args:
        evaluation: errors and arrays of some subsets.
    """
    found = []
    for name, errors in evaluation.summary.items():
        reasons = [*_energies(errors.get("energy_mae_mev_per_atom", 0.0))]
        reasons += _forces(
            evaluation.arrays[f"{name}/forces"], evaluation.arrays[f"{name}/forces_reference"]
        )
        if reasons:
            found.append(
                f"{name}: {' and '.join(reasons)}; the units or the level of theory of these "
                "labels probably do not fit the model, which was trained on eV and eV/Å, with E0 "
                "of its own data"
            )
    return found


def _energies(error: float) -> list[str]:
    if error <= LARGEST_ERROR:
        return []
    return [f"energies are wrong by {error / 1000:.3g} eV/atom, about as much as binds an atom"]


def _forces(predicted: np.ndarray, labelled: np.ndarray) -> list[str]:
    known = np.isfinite(labelled)
    x, y = labelled[known], predicted[known]
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if not norm or abs(x @ y) < CLEAR * norm:
        return []
    ratio = float(x @ y / (x @ x))
    if RATIO[0] < ratio < RATIO[1]:
        return []
    return [f"forces are predicted as {ratio:.2g} times the labelled ones"]
