"""Names of devices and precisions to torch's."""

from __future__ import annotations

import os

import torch

from reelkind.core.errors import ConfigError

CPU = torch.device("cpu")


def resolve_device(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``auto`` to this process's device; under torchrun each takes the GPU of its local rank.

    Raises:
        ConfigError: if CUDA is asked for and there is none, or fewer GPUs than processes.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return CPU
    local_rank, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local_rank >= num_gpus:
        raise ConfigError(f"device is {name!r}, process {local_rank} finds {num_gpus} CUDA devices; device = cpu works")
    return torch.device("cuda", local_rank)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision by name, one of ``config.PRECISIONS``; ``float32`` is none."""
    lower = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, lower, enabled=precision != "float32")


def inference_precision(device: torch.device) -> str:
    """The fastest of ``config.PRECISIONS`` that is safe for features: bfloat16 only where the device computes in it."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = (
            capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16")
        )  # last: ARM
        return "bfloat16" if native else "float32"
    return "bfloat16"
