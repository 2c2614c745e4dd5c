"""Graphs to TensorRT engines: parsed, built, and their memory planned."""
