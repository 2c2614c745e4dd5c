"""A model, its batches and a loss to a trained model."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .config import FinetuneConfig, HeadTrainConfig

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

STEPS_PER_LOG = 25


@dataclass(frozen=True)
class MetricsLog:
    """One JSON object a line, appended to ``path``; None writes nowhere."""

    path: Path | None = None

    def clear(self) -> None:
        """Forget an earlier run."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def write(self, **fields: Any) -> None:
        """Append a line and send it to the log."""
        logger.info("%s", fields)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")


NO_LOG = MetricsLog()


def average_weights(models: Sequence[M]) -> M:
    """A model whose parameters are the means of the others' (model soup, arXiv:2203.05482).

    Raises:
        ValueError: if there are no models.
    """
    if not models:
        raise ValueError("no models to average")
    soup = copy.deepcopy(models[0])
    with torch.no_grad():
        for name, tensor in soup.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.stack([model.state_dict()[name] for model in models]).mean(dim=0))
    return soup


def optimise(
    model: M,
    optimizer: torch.optim.Optimizer,
    draw: Callable[[], tuple[Tensor, Tensor]],
    compute_loss: Callable[[Tensor, Tensor], Tensor],
    config: FinetuneConfig | HeadTrainConfig,
    log: MetricsLog,
    stage: str,
    after_step: Callable[[], None] = lambda: None,
) -> M:
    """Train with warm-up, cosine decay, gradient clipping and a moving average of the weights.

    Args:
        model: changed in place.
        optimizer: its groups carry ``rate``, a multiple of the configured learning rate.
        draw: a batch of inputs and targets.
        compute_loss: of such a batch.
        config: how long and how.
        log: gets a line every 25 steps.
        stage: what the lines call it.
        after_step: called without gradients after each step.

    Returns:
        The moving average, in evaluation mode.
    """
    average = copy.deepcopy(model).eval()
    recent, started = [], time.monotonic()
    for step in tqdm(range(config.steps), desc=stage, mininterval=5):
        share = min(1.0, (step + 1) / config.warmup_steps) * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * group["rate"] * share
        model.train()
        loss = compute_loss(*draw())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        decay = min(config.ema_decay, (step + 1) / (step + 10))  # young averages forget the start sooner
        with torch.no_grad():
            after_step()
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        recent.append(loss.item())
        if (step + 1) % STEPS_PER_LOG == 0 or step + 1 == config.steps:
            log.write(
                stage=stage,
                step=step + 1,
                loss=round(float(np.mean(recent)), 4),
                seconds=round(time.monotonic() - started, 1),
            )
            recent = []
    return average
