"""One tiny configuration for each model: all that a new model adds to these tests."""

from mlip.models import ModelConfig
from tests.support.potentials import escn_config, mace_config, nequip_config, tdn_config

TINY: dict[str, ModelConfig] = {
    "mace": mace_config(),
    "nequip": nequip_config(),
    "tdn": tdn_config(),
    "escn": escn_config(),
}
