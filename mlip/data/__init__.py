"""Structures on the host: reading, checking, splitting, neighbour lists, packing into batches."""
