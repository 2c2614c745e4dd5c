"""ONNX Runtime, silent: whoever needs it in this package takes it from here.

ONNX Runtime 1.32 reports to its maker (an event host is looked up, ``.ses`` is written to the folder for temporary
files). It decides whether to when it is imported, so the environment must forbid it before.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
