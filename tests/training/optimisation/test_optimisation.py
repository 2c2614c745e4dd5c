import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from reelkind.core.errors import TrainingError
from reelkind.core.taxonomy.classes import subcategories
from reelkind.models.backbones import build_backbone
from reelkind.models.folding import Tail
from reelkind.training.config import FinetuneConfig, HeadTrainConfig
from reelkind.training.inputs.features import Activations
from reelkind.training.optimisation.collapse import final_collapses, find_collapse
from reelkind.training.optimisation.loop import _random_sequence, finetune, train_head
from reelkind.training.optimisation.schedule import rate_share
from reelkind.training.optimisation.tracking import MetricsLog

from .test_loop import HEAD, synthetic_features, uniform


def test_one_cycle_is_warm_up_and_cosine() -> None:
    config = HeadTrainConfig(steps=100, warmup_steps=10)
    for step in range(100):
        expected = min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / 100))
        assert rate_share(step, config) == expected


@pytest.mark.parametrize(("mult", "restarts"), [(1.0, [0, 40, 80]), (2.0, [0, 17, 51])])
def test_warm_restarts_agree_with_torch_within_a_cycle(mult: float, restarts: list[int]) -> None:
    config = FinetuneConfig(steps=120, warmup_steps=0, num_cycles=3, cycle_mult=mult)
    shares = [rate_share(step, config) for step in range(120)]
    assert [step for step in range(120) if shares[step] == 1.0] == restarts
    length = restarts[1]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, length)
    for step in range(length):
        assert shares[step] == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_a_rate_that_diverges_stops_with_step_and_rate() -> None:
    features, labels = synthetic_features(0)
    wild = dataclasses.replace(HEAD, learning_rate=1e30, max_gradient_norm=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"head diverged: .* at step \d+ of 120, learning rate .*; lower head"):
        train_head([features], labels, uniform(labels), wild, seed=0)


def test_a_rate_that_collapses_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features, labels = synthetic_features(0)
    wild = dataclasses.replace(HEAD, learning_rate=30.0, warmup_steps=0, feature_noise=3.0)
    log = MetricsLog(tmp_path / "metrics.jsonl")
    train_head([features], labels, uniform(labels), wild, seed=0, log=log.labelled(run="fold 1"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(line["stage"] == "collapse" and not line["final"] for line in lines)
    assert "head collapsed at step 50 of 120: it " in caplog.text
    (notice,) = final_collapses(lines)
    assert notice.startswith("fold 1, head: ")


def test_a_healthy_training_raises_no_notice() -> None:
    features, labels = synthetic_features(0)
    log = MetricsLog()
    train_head([features], labels, uniform(labels), dataclasses.replace(HEAD, feature_noise=3.0), seed=0, log=log)
    assert final_collapses(log.lines) == []


@pytest.mark.parametrize(
    ("confusion", "found"),
    [
        (np.diag([20, 20, 20, 20]), ""),
        (np.diag([20, 20, 20, 0]) + 20 * np.eye(4)[[3]].T @ np.eye(4)[[0]], "never says flat"),
        (np.diag([20, 20, 20, 0]) + 2 * np.eye(4)[[3]].T @ np.eye(4)[[0]], ""),  # two samples may be missed by chance
        (np.full((4, 4), 5), "is hardly better than always saying animation"),
        (np.zeros((4, 4)), ""),
    ],
    ids=["perfect", "absent", "rare", "chance", "nothing"],
)
def test_collapse_is_told_from_bad_luck(confusion: np.ndarray, found: str) -> None:
    assert find_collapse(confusion.astype(int)) == found


def test_subcategories_are_learned_from_those_that_carry_one() -> None:
    features, labels = synthetic_features(0)
    names = [(kind.class_name, kind.name) for kind in subcategories()]
    finer = np.array([10 * label + 1 for label in labels])
    finer[:40] = -1
    config = dataclasses.replace(HEAD, subcategory_weight=1.0)
    head = train_head([features], labels, uniform(labels), config, seed=0, subcategory_labels=finer)
    unseen, truth = synthetic_features(1)
    with torch.no_grad():
        embeddings = torch.cat([head(torch.from_numpy(unseen.of(i)[None]))[2] for i in range(len(truth))])
        said = head.classify_subcategories(embeddings)
    assert said.shape == (len(truth), len(names))
    assert (said.argmax(dim=1).numpy() == 10 * truth + 1).mean() > 0.8
    with pytest.raises(ValueError, match="needs subcategory_labels"):
        train_head([features], labels, uniform(labels), config, seed=0)


def test_stride_jitter_draws_from_a_stretch() -> None:
    rng, config = np.random.default_rng(0), dataclasses.replace(HEAD, num_frames=12, stride_jitter=0.9)
    clip = Activations.of_counts(np.arange(100.0)[:, None], [100])
    drawn = [_random_sequence([clip], 0, config, rng).ravel() for _ in range(200)]
    spans = [sequence[-1] - sequence[0] for sequence in drawn]
    assert all((np.diff(sequence) >= 0).all() for sequence in drawn)
    assert min(spans) < 20
    assert max(spans) > 80
    still = Activations.of_counts(np.zeros((1, 1)), [1])
    assert _random_sequence([still], 0, config, rng).shape == (12, 1)


@pytest.fixture(scope="module")
def tail() -> Tail:
    torch.manual_seed(0)
    return Tail(build_backbone("mobilenet_v2"), 17)


def frames(tail: Tail) -> tuple[Activations, np.ndarray]:
    channels = next(tail.parameters()).shape[1]
    values = np.random.default_rng(0).normal(size=(8, 2, 2, channels)).astype(np.float16)
    return Activations.of_counts(values, [1] * 8), np.arange(8) % 4


def test_layer_decay_slows_earlier_blocks(tail: Tail) -> None:
    activations, labels = frames(tail)

    def moved(layer_decay: float) -> list[float]:
        config = FinetuneConfig(
            steps=2, batch_size=4, warmup_steps=0, pull=0.0, blend=1.0, precision="float32", layer_decay=layer_decay
        )
        trained = finetune(tail, [activations], labels, uniform(labels), config, seed=0).tail
        return [
            sum((a - b).abs().sum().item() for a, b in zip(x.parameters(), y.parameters(), strict=True))
            for x, y in zip(trained.blocks, tail.blocks, strict=True)
        ]

    even, slowed = moved(1.0), moved(0.1)
    assert slowed[0] < 0.3 * even[0]
    assert slowed[1] > 0.5 * even[1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_stays_near_full(tail: Tail, precision: str) -> None:
    activations, labels = frames(tail)
    config = FinetuneConfig(steps=3, batch_size=4, mixup=0.0, dropout=0.0, precision="float32")
    mixed = dataclasses.replace(config, precision=precision)
    full, lower = (finetune(tail, [activations], labels, uniform(labels), c, seed=0) for c in (config, mixed))
    for a, b in zip(full.parameters(), lower.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=5e-3)
    assert any(not torch.equal(a, b) for a, b in zip(full.parameters(), lower.parameters(), strict=True))


def test_tensorboard_has_the_curves_and_keeps_out_of_version_control(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    for step in (25, 50):
        log.labelled(run="fold 0").write(stage="head", step=step, loss=1.0 / step, seconds=0.5)
    log.close()
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("fold 0/head/loss")] == [(25, 0.04), (50, 0.02)]
    assert (tmp_path / "tensorboard" / ".gitignore").read_text() == "*\n"
