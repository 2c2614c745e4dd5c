"""What every part of reelkind agrees on: taxonomy, frame choice, decoding, tensors, served models, bundles.

NumPy, PyAV and safetensors only. Nothing here imports torch, tritonclient or another folder of reelkind.
"""
