"""The served pipeline step by step, in PyTorch and in ONNX Runtime, and the clips it is tried on."""
