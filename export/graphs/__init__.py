"""Networks and steps as ONNX graphs."""
