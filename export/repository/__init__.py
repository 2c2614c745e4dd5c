"""Graphs to a model repository of Triton."""
