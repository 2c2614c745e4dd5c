"""One process to several under ``torchrun``: who we are, and what the processes share.

Without torchrun every function here is the identity. All processes draw the same batches from the same generator and
keep every n-th row, so one process and several see the same samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

TIMEOUT = timedelta(hours=24)  # the first process may compute activations for hours while the others wait


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes torchrun started, if it did: gloo on CPUs, NCCL on GPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 without torchrun."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes and talks, also before the processes have joined."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def main_first() -> Iterator[None]:
    """Let the first process through, then the others: what it leaves on disk they find."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def barrier() -> None:
    """Wait for the others."""
    if dist.is_initialized():
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks; picklable."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def parallel(model: nn.Module) -> nn.Module:
    """A module whose backward pass averages the gradients of all processes."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def own_rows(tensor: Tensor) -> Tensor:
    """This process's rows of a batch that all processes drew alike."""
    return tensor[rank() :: world_size()] if dist.is_initialized() else tensor


def part_random_numbers() -> None:
    """Let every process drop other neurons; to be called when the models are made, which must be the same."""
    if not is_main():
        torch.manual_seed(torch.initial_seed() + rank())
