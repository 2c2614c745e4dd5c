"""Samples and their activations to a fine-tuned tail and a trained head."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelkind.datasets.sample import Sample, subcategory_labels
from reelkind.models.folding import Tail
from reelkind.models.head import HeadConfig, TemporalHead

from .config import Config
from .inputs.features import Activations, extract
from .inputs.sampling import sampling_weights
from .optimisation import distributed
from .optimisation.distilling import Lessons
from .optimisation.loop import finetune, train_head
from .optimisation.optimise import average_weights
from .optimisation.tracking import MetricsLog
from .stage_store import StageStore

VERSION = 1  # part of every key: raise it whenever the same configuration and data give other weights


@dataclass(frozen=True)
class TrainingSet:
    """Everything the trainable stages see.

    Attributes:
        samples: N of them.
        clean: undamaged activations.
        variants: activations of damaged copies.
        digest: changes with anything the activations depend on.
        lessons: a teacher's features of the frames; None without a teacher.
    """

    samples: Sequence[Sample]
    clean: Activations
    variants: Sequence[Activations]
    digest: str
    lessons: Activations | None = None

    @property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def subcategories(self) -> np.ndarray:
        """Places in the taxonomy, int64 [N]; see `subcategory_labels`."""
        return subcategory_labels(self.samples)

    @property
    def clip_indices(self) -> np.ndarray:
        """Where the samples are videos, int64."""
        return np.array([i for i, sample in enumerate(self.samples) if not sample.is_still], dtype=np.int64)


@dataclass(frozen=True)
class Trainer:
    """Trains on any part of a training set.

    Attributes:
        config: its seed decides everything random.
        training: the samples and their activations.
        device: where it trains.
        store: where finished and unfinished stages are kept.
    """

    config: Config
    training: TrainingSet
    device: torch.device
    store: StageStore

    def fit(self, tail: Tail, chosen: np.ndarray, log: MetricsLog) -> tuple[Tail, TemporalHead]:
        """Fine-tune the tail on the chosen samples and train a head on what it then gives.

        Args:
            tail: where to start; stays as it is.
            chosen: int64, which samples may be seen.
            log: gets the losses.

        Returns:
            Both on the CPU, ready for inference.
        """
        weights = sampling_weights([self.training.samples[i] for i in chosen], self.config.sampling)
        tail = copy.deepcopy(tail)
        if self.config.finetune.steps:
            tail.load_state_dict(self._finetuned(tail, chosen, weights, log))
        head = self._head(tail.eval(), chosen, weights, log)
        return tail.cpu(), head

    def _finetuned(self, tail: Tail, chosen: np.ndarray, weights: np.ndarray, log: MetricsLog) -> dict[str, Tensor]:
        config = self.config
        num_variants = 1 + len(self.training.variants)
        settings = [asdict(config.finetune), config.backbone.frozen_blocks, tail.levels, num_variants]
        if config.distill.weight:
            settings.append(asdict(config.distill))
        name = f"tail_{self._key(chosen, weights, tail, settings)}"
        done, first_line = self.store.find(name, log), len(log.lines)
        if done is None:
            soup = [self._soup_member(tail, chosen, weights, number, name, log) for number in self._soup_numbers]
            done = {"state": average_weights(soup).state_dict()}
            self.store.keep(name, log.lines[first_line:], **done)
        state: dict[str, Tensor] = done["state"]
        return state

    @property
    def _soup_numbers(self) -> range:
        return range(self.config.finetune.num_soups)

    def _soup_member(
        self,
        tail: Tail,
        chosen: np.ndarray,
        weights: np.ndarray,
        number: int,
        soup_name: str,
        log: MetricsLog,
    ) -> Tail:
        config, training, name = self.config.finetune, self.training, f"{soup_name}_{number}"
        log = log.labelled(soup=number) if config.num_soups > 1 else log
        member, first_line = copy.deepcopy(tail), len(log.lines)
        if done := self.store.find(name, log):
            member.load_state_dict(done["state"])
            return member
        member = finetune(
            tail,
            [variant.select(chosen) for variant in (training.clean, *training.variants)],
            training.labels[chosen],
            weights,
            config,
            self.config.seed + number,
            log,
            self.store.checkpoint(name),
            self.device,
            Lessons.of(training.lessons.select(chosen)) if training.lessons else None,
            self.config.distill.weight,
        ).tail
        self.store.keep(name, log.lines[first_line:], state=member.state_dict())
        return member

    def _head(self, tail: Tail, chosen: np.ndarray, weights: np.ndarray, log: MetricsLog) -> TemporalHead:
        config, training = self.config, self.training
        settings = [asdict(config.head), config.finetune.precision]
        name = f"head_{self._key(chosen, weights, tail, settings)}"
        if done := self.store.find(name, log, temporary=True):
            head = TemporalHead(HeadConfig(**done["sizes"])).eval()
            head.load_state_dict(done["state"])
            return head
        first_line = len(log.lines)
        head = train_head(
            [
                self.features(tail, seen, chosen)
                for seen in (training.clean, *training.variants[: config.head.num_variants])
            ],
            training.labels[chosen],
            weights,
            config.head,
            config.seed,
            log,
            self.store.checkpoint(name),
            self.device,
            training.subcategories[chosen],
        )
        self.store.keep(
            name, log.lines[first_line:], temporary=True, state=head.state_dict(), sizes=asdict(head.config)
        )
        return head

    def features(self, tail: Tail, activations: Activations, chosen: np.ndarray) -> Activations:
        """Features float32 [F, D] of the chosen samples."""
        return extract(tail, activations.select(chosen), precision=self.config.finetune.precision, device=self.device)

    def _key(self, chosen: np.ndarray, weights: np.ndarray, start: nn.Module, settings: list[Any]) -> str:
        """Changes with everything a stage's result depends on."""
        training = self.training
        settings = [VERSION, training.digest, self.config.seed, distributed.world_size(), *settings]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for values in (chosen, weights, training.labels[chosen], training.subcategories[chosen]):
            digest.update(values.tobytes())
        for tensor in start.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:24]
