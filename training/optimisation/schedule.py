"""A step to its share of the learning rate."""

from __future__ import annotations

import math

from ..config import FinetuneConfig, HeadTrainConfig


def rate_share(step: int, config: FinetuneConfig | HeadTrainConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine annealing, restarted each cycle."""
    lengths = [config.cycle_mult**cycle for cycle in range(config.num_cycles)]
    ends = [round(config.steps * sum(lengths[: cycle + 1]) / sum(lengths)) for cycle in range(config.num_cycles)]
    end = min(end for end in ends if end > step)
    start = max([end for end in ends if end <= step], default=0)
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warmup * 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))
