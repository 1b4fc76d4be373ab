"""Golden values and derivatives with programs that are optimised, as users run them.

All other tests compile without optimisation, which is faster and hides what the optimiser breaks.
"""

import os
import subprocess
import sys

import pytest

CHOSEN = {
    "tests/models/test_golden.py": "golden_values and residual_l1",
    "tests/conformance/test_models.py": "mace and float32 and (rotation or gradient)",
}


@pytest.mark.slow
@pytest.mark.parametrize("file", CHOSEN)
def test_passes_as_well(root, file):
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=3"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", file, "-k", CHOSEN[file]]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
