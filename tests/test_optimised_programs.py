"""Golden values and derivatives with programs that are optimised, as users run them.

All other tests compile without optimisation, which is faster and hides what the optimiser breaks.
"""

import os
import subprocess
import sys

import pytest

CHOSEN = [
    "tests/models/test_golden.py::test_golden_values[density_residual_one_layer]",
    "tests/conformance/test_models.py::test_orthogonal_transformations[rotation-mace-float32]",
    "tests/conformance/test_models.py::test_forces_are_minus_the_gradient[mace-float32]",
]


@pytest.mark.slow
def test_pass_as_well(root):
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=3"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *CHOSEN]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CHOSEN)} passed" in done.stdout
