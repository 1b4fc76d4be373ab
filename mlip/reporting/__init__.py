"""Figures, error tables and the evaluation report of a run folder."""
