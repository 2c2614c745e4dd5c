"""The state of a training to a file and back, so that a killed run ends where an undisturbed one would have."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelkind.core.files.whole_files import whole_file

from . import distributed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where one training keeps its state.

    Attributes:
        path: replaced as a whole, so that it is never half written.
        every: optimizer steps between two states.
    """

    path: Path
    every: int

    def is_due(self, step: int) -> bool:
        """Whether to write after ``step`` steps."""
        return step % self.every == 0

    def save(self, state: dict[str, Any], rng: np.random.Generator) -> None:
        """Write ``state`` and every process's random generators; to be called by all processes."""
        generators = distributed.gather(_random_state(rng))
        if distributed.is_main():
            save_atomically({**state, "random": generators}, self.path)

    def load(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """The last state, if there is one; random generators continue as they were."""
        state = load_if_whole(self.path)
        if state is not None:
            _set_random_state(state["random"][distributed.rank()], rng)
        return state


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        torch.save(state, file)


def load_if_whole(path: Path) -> dict[str, Any] | None:
    """What `save_atomically` wrote; None, with a warning unless it is missing, if it cannot be read."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are bytes in it
        logger.warning("%s is damaged and passed over: %s", path, str(error).partition("\n")[0])
        return None
    return state


def _random_state(rng: np.random.Generator) -> dict[str, Any]:
    state = {"numpy": rng.bit_generator.state, "python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any], rng: np.random.Generator) -> None:
    rng.bit_generator.state = state["numpy"]
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
