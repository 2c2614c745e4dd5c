"""What a card can do at best, how it is clocked, and how much of its memory we may have."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from reelkind.core.cuda import Device

_MATRIX = 8192
_COPY_BYTES = 1 << 30
_WARMUP, _REPEATS = 3, 10
_GRANULE_BYTES = 1 << 30  # a card's memory may be in pieces: take it piece by piece
_QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu"


def clocks() -> dict[str, str]:
    """What nvidia-smi says of the card now; empty where it is missing."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(
        zip(_QUERY.split(","), (value.strip() for value in done.stdout.splitlines()[0].split(",")), strict=False)
    )


def measured_peaks() -> dict[str, float]:
    """FP16 products of large matrices in TFLOP/s, and copies within the card's memory in GB/s, read and written."""
    import torch

    left, right = (torch.randn(_MATRIX, _MATRIX, device="cuda", dtype=torch.float16) for _ in range(2))
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    product_ms = _median_ms(lambda: torch.matmul(left, right))
    copy_ms = _median_ms(lambda: target.copy_(source))
    return {"fp16_tflops": 2 * _MATRIX**3 / product_ms / 1e9, "copy_gb_per_s": 2 * _COPY_BYTES / copy_ms / 1e6}


@contextmanager
def memory_cap(device: Device, cap_bytes: int) -> Iterator[None]:
    """Take all memory of the card but ``cap_bytes``, so that going beyond fails here as it would on the slice."""
    surplus = device.free_bytes() - cap_bytes
    taken = []
    try:
        while surplus > 0:
            size = min(surplus, _GRANULE_BYTES)
            taken.append(device.allocate(size))
            surplus -= size
        yield
    finally:
        for address in taken:
            device.free(address)


def _median_ms(work: Callable[[], object]) -> float:
    import torch

    cuda: Any = torch.cuda
    found: list[float] = []
    for number in range(_REPEATS + _WARMUP):
        start, end = (cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if number >= _WARMUP:
            found.append(start.elapsed_time(end))
    return statistics.median(found)
