from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from reelkind.core.errors import ConfigError
from reelkind.models.backbones import TEACHER_FEATURES, build_backbone
from reelkind.models.folding import Stem, Tail
from reelkind.models.pooling import StandardisedLinear
from reelkind.training.config import FinetuneConfig
from reelkind.training.inputs.features import Activations
from reelkind.training.optimisation.distilling import Lessons, refuse_other_frames, start_projection
from reelkind.training.optimisation.loop import finetune

NUM_SAMPLES = 24


@pytest.fixture(scope="module")
def pupil() -> Tail:
    torch.manual_seed(0)
    return Tail(build_backbone("mobilenet_v2_distilled"), 14)


@pytest.fixture(scope="module")
def activations(pupil: Tail) -> Activations:
    channels = next(pupil.blocks.parameters()).shape[1]
    values = np.random.default_rng(0).normal(size=(2 * NUM_SAMPLES, 4, 4, channels))
    return Activations.of_counts(values.astype(np.float16), [2] * NUM_SAMPLES)


@pytest.fixture(scope="module")
def lessons(pupil: Tail, activations: Activations) -> Activations:
    """A linear function of what the untrained network sees, so that it can be learned."""
    with torch.no_grad():
        seen = pupil.pool(torch.from_numpy(activations.values).float().permute(0, 3, 1, 2))
    mixing = torch.randn(seen.shape[1], TEACHER_FEATURES, generator=torch.Generator().manual_seed(1))
    standard = (seen - seen.mean(dim=0)) / (seen.std(dim=0) + 1e-3)
    return Activations.of_counts((standard @ mixing + 3).numpy().astype(np.float32), [2] * NUM_SAMPLES)


def test_the_projection_starts_as_scikit_learns_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    given, wanted = rng.normal(5, [1, 20, 0.1], size=(50, 3)).astype(np.float32), rng.normal(size=(50, 2))
    projection = StandardisedLinear(nn.Linear(3, 2))
    projection.fit(torch.from_numpy(given), torch.from_numpy(wanted).float(), ridge=0.1)
    standard = (given - given.mean(axis=0)) / (given.std(axis=0, ddof=1) + 1e-3)
    oracle = Ridge(alpha=0.1 * len(given)).fit(standard, wanted)
    with torch.no_grad():
        said = projection(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(said, oracle.predict(standard), atol=1e-4)


def test_a_plain_layer_says_what_the_standardised_one_says() -> None:
    torch.manual_seed(0)
    projection, plain = StandardisedLinear(nn.Linear(4, 3)), nn.Linear(4, 3)
    projection.mean.copy_(torch.randn(4))
    projection.std.copy_(torch.rand(4) + 0.1)
    projection.write_to(plain)
    inputs = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.allclose(plain(inputs), projection(inputs), atol=1e-5)


def test_lessons_are_learned_beside_labels(pupil: Tail, activations: Activations, lessons: Activations) -> None:
    config = FinetuneConfig(
        steps=12, batch_size=16, learning_rate=1e-3, warmup_steps=2, ema_decay=0.5, precision="float32", blend=1.0
    )
    labels = np.arange(NUM_SAMPLES) % 4
    weights = np.full(NUM_SAMPLES, 1 / NUM_SAMPLES)
    taught = Lessons.of(lessons)
    model = finetune(pupil, [activations], labels, weights, config, 0, lessons=taught, lesson_weight=1.0)
    alone = finetune(pupil, [activations], labels, weights, config, 0)
    inputs = torch.from_numpy(activations.values).float().permute(0, 3, 1, 2)
    wanted = torch.from_numpy(lessons.values)
    with torch.no_grad():
        assert taught.error(model.tail(inputs), wanted) < 0.3
        assert taught.error(alone.tail(inputs), wanted) > 1


def test_the_trained_projection_is_the_backbones(pupil: Tail, activations: Activations, lessons: Activations) -> None:
    backbone = build_backbone("mobilenet_v2_distilled")
    tail = Tail(backbone, 14)
    start_projection(tail, [activations], Lessons.of(lessons), np.random.default_rng(0))
    tail.write_to(backbone, 14)
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = tail(Stem(backbone, 14)(frames))
        assert torch.allclose(backbone(frames), wanted, atol=1e-3 * float(wanted.abs().max()))
    assert backbone.feature_dim == TEACHER_FEATURES


def test_lessons_of_other_frames_or_widths_are_refused(activations: Activations, lessons: Activations) -> None:
    other = Activations.of_counts(lessons.values[:NUM_SAMPLES], [1] * NUM_SAMPLES)
    with pytest.raises(ConfigError, match=r"augment\.source_frames must be one number"):
        refuse_other_frames([activations], other, TEACHER_FEATURES)
    with pytest.raises(ConfigError, match="768 features, the backbone learns 1280"):
        refuse_other_frames([activations], lessons, 1280)


def test_a_pupil_without_a_projection_is_refused(activations: Activations, lessons: Activations) -> None:
    plain = Tail(build_backbone("mobilenet_v2_levels"), 14)
    with pytest.raises(ConfigError, match="_distilled"):
        start_projection(plain, [activations], Lessons.of(lessons), np.random.default_rng(0))


def test_a_pupil_starts_from_weights_that_know_nothing_of_its_projection(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = build_backbone("mobilenet_v2_levels")
    torch.save(plain.body.state_dict(), tmp_path / "weights.pth")
    pupil = build_backbone("mobilenet_v2_distilled", tmp_path / "weights.pth")
    assert torch.equal(next(pupil.body.features.parameters()), next(plain.body.features.parameters()))
