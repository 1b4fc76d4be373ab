"""The command line: one module a verb, composed by Hydra, imported only when asked for."""
