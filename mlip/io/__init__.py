"""Saved models and weights of other projects."""
