"""Building blocks of equivariant networks."""
