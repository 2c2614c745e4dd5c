"""Modules to the tensors a bundle stores, and back.

``float16``: matrices and kernels as FP16, in ``backbone.safetensors``. ``int8``: linear layers of the backbone as
integers ``<layer>.weight_int8`` int8 [in, out], as ONNX multiplies them, with ``<layer>.weight_scale`` float32 [out],
the rest as before; files of less than 50 MB in ``onnx/``, where the graphs point into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, ONNX_FOLDER
from reelkind.core.files.whole_files import write_whole

from .quantising import linear_layers, quantise, round_to_int8

MAX_FP32_ELEMENTS = 4096  # biases and statistics cost nothing in full precision, and matter most
MAX_FILE_BYTES = 48_000_000  # hosts of repositories warn from 50 MB on
INT8_SUFFIX, SCALE_SUFFIX = "_int8", "_scale"


@torch.no_grad()
def round_as_stored(module: nn.Module, storage: str = "float16") -> None:
    """Round in place to what the bundle will hold, so that metrics measured from now on are those shipped.

    Rounding twice changes nothing.
    """
    if storage == "int8":
        round_to_int8(module)
    integers = _integer_names(module, storage)
    for name, tensor in module.state_dict().items():
        if name not in integers and _is_stored_as_half(tensor):
            tensor.copy_(tensor.half())


@torch.no_grad()
def stored_state(module: nn.Module, storage: str = "float16") -> dict[str, Tensor]:
    """State dict as stored, of a module that `round_as_stored` has rounded."""
    integers, state = _integer_names(module, storage), {}
    for name, tensor in module.state_dict().items():
        if name in integers:
            values, scale = quantise(tensor)
            state[name + INT8_SUFFIX], state[name + SCALE_SUFFIX] = values.T.contiguous(), scale
        else:
            state[name] = (tensor.half() if _is_stored_as_half(tensor) else tensor).contiguous().clone()
    return state


def expand(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stored state dict with its integers times their scales, float32 [out, in], under the layers' own names."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((INT8_SUFFIX, SCALE_SUFFIX))}
    for name, values in state.items():
        if name.endswith(INT8_SUFFIX):
            weight = name.removesuffix(INT8_SUFFIX)
            plain[weight] = values.T.float().mul_(state[weight + SCALE_SUFFIX].unsqueeze(1)).contiguous()
    return plain


def write_backbone(folder: Path, backbone: nn.Module, storage: str) -> tuple[str, ...]:
    """Write a backbone's weights and return the files' names, relative to the bundle's folder."""
    state = stored_state(backbone, storage)
    if storage != "int8":
        write_state(folder / BACKBONE_WEIGHTS_NAME, state)
        return (BACKBONE_WEIGHTS_NAME,)
    (folder / ONNX_FOLDER).mkdir(parents=True, exist_ok=True)
    names = []
    for number, shard in enumerate(_shards(state)):
        names.append(f"{ONNX_FOLDER}/backbone_{number}.safetensors")
        write_state(folder / names[-1], shard)
    return tuple(names)


def write_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write tensors to a .safetensors file that others may read too (``save_file`` hides it from them)."""
    write_whole(path, safetensors.torch.save(state))  # a served model may have the old file open


def _shards(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Parts of about equal size, in order, each below ``MAX_FILE_BYTES``."""
    total = sum(tensor.nbytes for tensor in state.values())
    number, done = -(-total // MAX_FILE_BYTES), 0
    shards: list[dict[str, Tensor]] = [{} for _ in range(number)]
    for name, tensor in state.items():
        shards[done * number // total][name] = tensor
        done += tensor.nbytes
    return shards


def _integer_names(module: nn.Module, storage: str) -> set[str]:
    return {f"{name}.weight" for name, _ in linear_layers(module)} if storage == "int8" else set()


def _is_stored_as_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and (tensor.ndim > 1 and tensor.numel() > MAX_FP32_ELEMENTS)
