"""Measuring time: training and ASE steps of a model, and every tensor product by itself."""
