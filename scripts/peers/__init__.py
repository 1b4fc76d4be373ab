"""Other projects, each in an environment of its own, for golden values and for benchmarks."""
