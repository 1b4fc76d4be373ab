"""One module a file format, each a source of `mlip.data.structure.Structure`."""
