"""A trained bundle to what a server runs: ONNX graphs, a model repository, and the proof that they agree."""
