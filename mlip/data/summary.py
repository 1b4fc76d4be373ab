"""The numbers by which a data set is known: kept in the saved model, shown in the report."""

from __future__ import annotations

from typing import Any

from ase.data import chemical_symbols

from mlip.data.dataset import Dataset
from mlip.data.tally import Tally


def summarise(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Size, elements and labels of every subset; of a stream those of its sample.

    Returns:
        by subset: `structures`, `looked_at`; `atoms` of the smallest and the largest structure;
        symbols of the `elements`; mean and standard deviation of (E − ΣE0)/n,
        `energy_mean_ev_per_atom` and `energy_spread_ev_per_atom`; `forces_rms_ev_per_a` and
        `forces_max_ev_per_a` over the components. Without labels a number is None.
    """
    found = {}
    for name, subset in dataset.subsets.items():
        tally = Tally()
        tally.add(dataset.sample(name))
        mean, spread = tally.energy_deviation(dataset.e0.values) or (None, None)
        found[name] = {
            "structures": len(subset),
            "looked_at": tally.structures,
            "atoms": [tally.smallest, tally.largest],
            "elements": [chemical_symbols[number] for number in tally.elements],
            "energy_mean_ev_per_atom": mean,
            "energy_spread_ev_per_atom": spread,
            "forces_rms_ev_per_a": tally.force_rms,
            "forces_max_ev_per_a": tally.largest_force if tally.forces else None,
        }
    return found
