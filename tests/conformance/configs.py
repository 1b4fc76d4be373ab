"""One tiny configuration for each model: all that a new model adds to these tests."""

from mlip.settings import Settings
from tests.support.potentials import mace_config

TINY: dict[str, Settings] = {"mace": mace_config()}
