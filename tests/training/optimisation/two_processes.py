"""What each process of `test_distributed` does: train both stages and store its own weights and log."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from reelkind.models.backbones import build_backbone
from reelkind.models.folding import Tail
from reelkind.training.config import FinetuneConfig, HeadTrainConfig
from reelkind.training.inputs.features import Activations
from reelkind.training.optimisation import distributed
from reelkind.training.optimisation.devices import CPU
from reelkind.training.optimisation.loop import finetune, train_head
from reelkind.training.optimisation.tracking import MetricsLog

FINETUNE = FinetuneConfig(steps=4, batch_size=8, dropout=0.0, precision="float32", warmup_steps=1, layer_decay=0.8)
HEAD = HeadTrainConfig(
    width=16, num_layers=2, num_frames=3, steps=6, batch_size=8, dropout=0.0, feature_noise=0.0, subcategory_weight=0.5
)


def train(folder: Path) -> None:
    """Write ``<rank>.pt`` and ``<rank>.json``."""
    torch.manual_seed(0)
    tail = Tail(build_backbone("mobilenet_v2"), 18)
    rng, labels = np.random.default_rng(0), np.arange(12) % 4
    frames = Activations.of_counts(rng.normal(size=(12, 2, 2, 320)).astype(np.float16), [1] * 12)
    clips = Activations.of_counts(rng.normal(size=(48, 10)).astype(np.float32), [4] * 12)
    uniform, log = np.full(12, 1 / 12), MetricsLog()
    classifier = finetune(tail, [frames], labels, uniform, FINETUNE, seed=1, log=log)
    head = train_head([clips], labels, uniform, HEAD, seed=1, log=log, subcategory_labels=labels * 11)
    states = {"classifier": classifier.state_dict(), "head": head.state_dict()}
    torch.save(states, folder / f"{distributed.rank()}.pt")
    (folder / f"{distributed.rank()}.json").write_text(json.dumps(log.lines))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group(CPU):
        train(Path(sys.argv[1]))
