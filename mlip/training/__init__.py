"""Training: loss, optimiser, schedule, loop, checkpoints, metrics and evaluation."""
