"""A model, its batches and a loss to a trained model, in one process or several, from the start or a checkpoint."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from reelkind.core.errors import ConfigError, TrainingError
from reelkind.core.taxonomy.classes import NUM_CLASSES

from ..config import FinetuneConfig, HeadTrainConfig
from . import distributed
from .checkpointing import Checkpoint
from .collapse import note_collapse
from .schedule import rate_share
from .tracking import MetricsLog

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

STEPS_PER_LOG = 25
SETTLING_SHARE = 0.25  # of the steps, before which a class may well be missing from the answers


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
    draw: Callable[[], tuple[Tensor, ...]],
    compute_loss: Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, Tensor]],
    config: FinetuneConfig | HeadTrainConfig,
    rng: np.random.Generator,
    stage: str,
    log: MetricsLog | None = None,
    after_step: Callable[[], None] = lambda: None,
    checkpoint: Checkpoint | None = None,
) -> M:
    """Train with warm-up, cosine decay, gradient clipping and a moving average of the weights.

    Args:
        model: changed in place; its device is where it trains.
        optimizer: its groups carry ``rate``, a multiple of the configured learning rate.
        draw: a batch, first inputs and targets float [N, K], the same in all processes; each keeps its own rows.
        compute_loss: of the model (or its parallel wrapper) and such a batch; also gives logits float [N, K].
        config: how long and how.
        rng: what ``draw`` draws from.
        stage: what the lines call it.
        log: gets a line every 25 steps, and those of an interrupted run again.
        after_step: called without gradients after each step.
        checkpoint: where the state is kept, and taken up again.

    Returns:
        The moving average, in evaluation mode.

    Raises:
        TrainingError: if the loss or a weight is not a finite number.
        ConfigError: if a batch cannot be shared evenly among the processes.
    """
    if config.batch_size % distributed.world_size():
        raise ConfigError(f"{stage}: {distributed.world_size()} processes cannot share batches of {config.batch_size}")
    training = _Training(model, optimizer, config, stage, log or MetricsLog())
    distributed.part_random_numbers()
    state = checkpoint.load(rng) if checkpoint else None
    first = training.restore(state) if state else 0
    network, device = distributed.parallel(model), next(model.parameters()).device
    hidden = None if distributed.is_main() else True  # None: no bar in a log file
    for step in tqdm(range(first, config.steps), stage, config.steps, mininterval=5, disable=hidden, initial=first):
        batch = tuple(distributed.own_rows(tensor).to(device) for tensor in draw())
        training.take_step(step, partial(compute_loss, network, batch), batch[1])
        with torch.no_grad():
            after_step()
        training.finish_step(step)
        if checkpoint and checkpoint.is_due(step + 1) and step + 1 < config.steps:
            checkpoint.save(training.state(step + 1), rng)
    if not all(bool(parameter.isfinite().all()) for parameter in training.average.parameters()):
        raise training.divergence(config.steps - 1, "a weight is not finite")
    return training.average


class _Training(Generic[M]):
    """Model, average, optimizer and what has been seen so far."""

    def __init__(
        self,
        model: M,
        optimizer: torch.optim.Optimizer,
        config: FinetuneConfig | HeadTrainConfig,
        stage: str,
        log: MetricsLog,
    ) -> None:
        self.model, self.optimizer, self.config, self.stage, self.log = model, optimizer, config, stage, log
        self.average = copy.deepcopy(model).eval()
        device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.window = _Window()
        self.num_earlier_lines, self.started = len(log.lines), time.monotonic()

    def state(self, step: int) -> dict[str, Any]:
        """Everything that decides the steps after ``step``, but the random generators."""
        return {
            "step": step,
            **{name: part.state_dict() for name, part in self._parts()},
            "window": asdict(self.window),
            "lines": self.log.lines[self.num_earlier_lines :],
            "seconds": time.monotonic() - self.started,
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Go back to a `state`; returns its step."""
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.window = _Window(**state["window"])
        for line in state["lines"]:
            self.log.write(**line)
        self.started -= state["seconds"]
        logger.info("%s goes on at step %d of %d", self.stage, state["step"], self.config.steps)
        step: int = state["step"]
        return step

    def _parts(self) -> list[tuple[str, Any]]:
        names = ("model", "average", "optimizer", "scaler")
        return [(name, getattr(self, name)) for name in names]

    def take_step(self, step: int, compute_loss: Callable[[], tuple[Tensor, Tensor]], targets: Tensor) -> None:
        """Change the weights once."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["rate"] * rate_share(step, self.config)
        self.model.train()
        loss, logits = compute_loss()
        self.window.add(loss.item(), logits, targets)
        if not math.isfinite(self.window.losses[-1]):
            raise self.divergence(step, f"the loss is {self.window.losses[-1]}")
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def finish_step(self, step: int) -> None:
        """Follow the weights with their average, and write a line when one is due."""
        decay = min(self.config.ema_decay, (step + 1) / (step + 10))  # young averages forget the start sooner
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        if (step + 1) % STEPS_PER_LOG and step + 1 < self.config.steps:
            return
        self.log.write(
            stage=self.stage,
            step=step + 1,
            loss=round(float(np.mean(self.window.losses)), 4),
            accuracy=round(self.window.accuracy, 4),
            learning_rate=self.config.learning_rate * rate_share(step, self.config),
            seconds=round(time.monotonic() - self.started, 1),
        )
        if step >= SETTLING_SHARE * self.config.steps:
            note_collapse(self.log, self.stage, np.array(self.window.confusion), step + 1, self.config.steps)
        self.window = _Window()

    def divergence(self, step: int, what: str) -> TrainingError:
        """The error for numbers that are none."""
        rate = self.config.learning_rate * rate_share(min(step, self.config.steps - 1), self.config)
        return TrainingError(
            f"{self.stage} diverged: {what} at step {step + 1} of {self.config.steps}, learning rate {rate:.3g}; "
            f"lower {self.stage}.learning_rate (now {self.config.learning_rate:g})"
        )


@dataclass
class _Window:
    """What happened since the last line of the log."""

    losses: list[float] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=lambda: np.zeros((NUM_CLASSES, NUM_CLASSES), int).tolist())

    def add(self, loss: float, logits: Tensor, targets: Tensor) -> None:
        self.losses.append(loss)
        for true, said in zip(targets.argmax(dim=1).tolist(), logits.argmax(dim=1).tolist(), strict=True):
            self.confusion[true][said] += 1

    @property
    def accuracy(self) -> float:
        """Share of the batches' rows whose strongest class is the target's."""
        confusion = np.array(self.confusion)
        return float(confusion.trace() / confusion.sum())
