"""Equivariant tensor products."""
