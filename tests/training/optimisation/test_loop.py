import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reelkind.models.backbones import build_backbone
from reelkind.models.folding import Tail
from reelkind.training.config import FinetuneConfig, HeadTrainConfig
from reelkind.training.inputs.features import Activations, extract
from reelkind.training.optimisation.loop import finetune, train_head
from reelkind.training.optimisation.optimise import average_weights
from reelkind.training.optimisation.tracking import MetricsLog

HEAD = HeadTrainConfig(width=32, num_layers=1, steps=120, batch_size=32, num_frames=4, warmup_steps=5, ema_decay=0.9)


def synthetic_features(seed: int, num_samples: int = 160) -> tuple[Activations, np.ndarray]:
    """Clips of 1 to 6 frames whose class is a direction in feature space."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_samples) % 4
    lengths = rng.integers(1, 7, num_samples)
    frames = [rng.normal(size=(n, 10)) + 2 * np.eye(10)[label] for n, label in zip(lengths, labels, strict=True)]
    return Activations.of_counts(np.concatenate(frames).astype(np.float32), lengths), labels


def uniform(labels: np.ndarray) -> np.ndarray:
    return np.full(len(labels), 1 / len(labels))


def test_a_small_head_learns_a_simple_rule() -> None:
    features, labels = synthetic_features(0)
    unseen, truth = synthetic_features(1)
    head = train_head([features], labels, uniform(labels), HEAD, seed=0)
    with torch.no_grad():
        guesses = [head(torch.from_numpy(unseen.of(i)[None]))[0].argmax().item() for i in range(len(truth))]
    assert (np.array(guesses) == truth).mean() > 0.9


def test_the_same_seed_gives_the_same_head() -> None:
    features, labels = synthetic_features(0)
    short = HeadTrainConfig(width=16, num_layers=1, steps=5, batch_size=8)
    first, again, other = (
        train_head([features], labels, uniform(labels), short, seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_metrics_are_lines_of_json(tmp_path: Path) -> None:
    features, labels = synthetic_features(0)
    log = MetricsLog(tmp_path / "metrics.jsonl")
    train_head([features], labels, uniform(labels), HEAD, seed=0, log=log)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [25, 50, 75, 100, 120]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_finetuning_fits_and_leaves_the_start_alone() -> None:
    torch.manual_seed(0)
    tail = Tail(build_backbone("mobilenet_v2"), 18)  # only the last block
    before = {name: tensor.clone() for name, tensor in tail.state_dict().items()}
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    channels = next(tail.parameters()).shape[1]
    values = rng.normal(size=(40, 2, 2, channels)) + 2 * np.eye(channels)[labels][:, None, None]
    activations = Activations.of_counts(values.astype(np.float16), [1] * 40)
    config = FinetuneConfig(
        steps=30,
        batch_size=16,
        learning_rate=3e-3,
        warmup_steps=2,
        ema_decay=0.5,
        mixup=0.0,
        precision="float32",
        blend=1.0,
    )
    model = finetune(tail, [activations], labels, uniform(labels), config, seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in tail.state_dict().items())
    inputs = torch.from_numpy(values).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        assert (model(inputs)[0].argmax(dim=1).numpy() == labels).mean() > 0.9
    features = extract(model.tail, activations, batch_size=7, precision="float32")
    with torch.no_grad():
        np.testing.assert_allclose(features.values, model.tail(inputs).numpy(), rtol=1e-2, atol=1e-2)


def test_soup_is_the_mean_of_its_models() -> None:
    models = [torch.nn.Linear(2, 2) for _ in range(3)]
    soup = average_weights(models)
    assert torch.allclose(soup.weight, sum(model.weight for model in models) / 3)
    with pytest.raises(ValueError, match="no models"):
        average_weights([])


def test_selected_samples_keep_their_frames() -> None:
    activations = Activations.of_counts(np.arange(6.0)[:, None], [1, 3, 2])
    chosen = activations.select(np.array([2, 0]))
    assert [chosen.of(i).ravel().tolist() for i in range(2)] == [[4.0, 5.0], [0.0]]
    assert activations.values[chosen.frames].ravel().tolist() == [4.0, 5.0, 0.0]
