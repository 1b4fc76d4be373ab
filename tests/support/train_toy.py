"""Train the toy in a process of its own: `train_toy.py RUN_DIR [STEP [WORKERS]]`.

With STEP, unless it is 0, it saves after every step, and is killed at STEP. With WORKERS its data
are streamed by so many worker processes. Prints a digest of the final weights.
"""

import hashlib
import os
import signal
import sys

import jax
import numpy as np
from flax import nnx

from mlip import runtime
from mlip.training.loop import fit
from tests.support.training import fit_arguments, streamed_toy_run, toy_run


class Killer:
    """A silent reporter that kills its process without warning."""

    def __init__(self, step):
        self._step = step

    def notice(self, text):
        pass

    def training(self, status, errors):
        if status.step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)

    def validation(self, status, row, best):
        pass

    def close(self):
        pass


def main():
    run_dir, step = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    runtime.enable_compilation_cache()
    often = {"checkpoint_minutes": 0.0} if step else {}
    run = streamed_toy_run(int(sys.argv[3])) if len(sys.argv) > 3 else toy_run()
    epochs = 2 if len(sys.argv) > 3 else 3  # of 34 steps or of 5
    arguments = fit_arguments(run_dir, max_epochs=epochs, **often)
    result = fit(*run, reporter=Killer(step), **arguments)
    leaves = jax.tree.leaves(nnx.state(result.model, nnx.Param))
    content = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
    sys.stdout.write(hashlib.sha256(content).hexdigest() + "\n")


if __name__ == "__main__":
    main()
