from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reelkind.core.errors import ConfigError
from reelkind.models.backbones import BACKBONE_NAMES, build_backbone
from reelkind.models.folding import Stem, Tail
from reelkind.models.head import HeadConfig, TemporalHead


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_frames", [1, 7, 16])
def test_head_takes_any_number_of_frames(num_frames: int) -> None:
    head = TemporalHead(HeadConfig(feature_dim=12, width=16)).eval()
    logits, attention, embedding = head(torch.randn(3, num_frames, 12))
    assert (logits.shape, attention.shape, embedding.shape) == ((3, 4), (3, num_frames), (3, 16))
    assert torch.allclose(attention.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("num_subcategories", [0, 46])
def test_the_logits_of_a_clip_are_the_mean_of_its_frames_weighted_by_attention(num_subcategories: int) -> None:
    torch.manual_seed(0)
    head = TemporalHead(HeadConfig(feature_dim=12, width=16, num_subcategories=num_subcategories)).eval()
    with torch.no_grad():
        head.pooling.weight.mul_(20)  # so that frames count differently
        clips = torch.randn(3, 7, 12)
        logits, attention, embedding, frames, *finer = head.outputs(clips)
        plain = head(clips)
    assert frames.shape == (3, 7, 4)
    assert attention.max() > 2 / 7
    torch.testing.assert_close((attention.unsqueeze(-1) * frames).sum(dim=1), logits, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(one, other) for one, other in zip((logits, attention, embedding), plain, strict=True))
    assert [each.shape for each in finer] == ([(3, 46)] if num_subcategories else [])


def test_a_clip_does_not_depend_on_its_batch() -> None:
    head = TemporalHead(HeadConfig(feature_dim=12, width=16)).eval()
    clips = torch.randn(3, 5, 12)
    assert torch.allclose(head(clips)[0][1], head(clips[1:2])[0][0], atol=1e-6)


def test_self_attention_agrees_with_torch() -> None:
    head = TemporalHead(HeadConfig(feature_dim=12, width=16, num_attention_heads=4)).eval()
    ours = head.self_attention
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
        x = torch.randn(2, 7, 16)
        assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in BACKBONE_NAMES if name.startswith("mobilenet")] + ["resnet50"])
def test_backbone_gives_the_features_it_promises(name: str, frames: torch.Tensor) -> None:
    backbone = build_backbone(name)
    with torch.no_grad():
        assert backbone(frames).shape == (2, backbone.feature_dim)


def test_random_weights_follow_the_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_backbone("mobilenet_v2").state_dict())
    assert all(torch.equal(first, second) for first, second in zip(states[0].values(), states[1].values(), strict=True))


def test_levels_are_means_and_deviations_of_a_block(frames: torch.Tensor) -> None:
    backbone = build_backbone("mobilenet_v2_levels")
    with torch.no_grad():
        x = backbone.normalise(frames)
        for block in backbone.body.features[:14]:
            x = block(x)
        features = backbone(frames).numpy()
    block = x.numpy().reshape(2, 96, -1)
    np.testing.assert_allclose(features[:, 1280:1376], block.mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(features[:, 1376:], np.sqrt(block.var(axis=2) + 1e-5), atol=1e-5)


DEEP = ("resnet101",)  # a hundred random layers amplify what folding rounds
SPLITS = [
    ("mobilenet_v2", 14),
    ("mobilenet_v2", 0),
    ("efficientnet_lite0", 12),
    ("efficientnet_lite0_levels", 12),
    ("mobilenet_v2_levels", 14),
    ("mobilenet_v2_levels", 0),
    ("mobilenet_v2", 19),
    ("resnet50", 0),
    ("resnet50", 15),
    ("resnet101", 30),
    ("efficientnet_v2_s", 6),
    ("efficientnet_v2_s", 0),
    ("efficientnet_v2_m", 7),
]


def _tolerance(name: str) -> dict[str, float]:
    return {"rtol": 1e-2, "atol": 1e-3} if name in DEEP else {"rtol": 1e-3, "atol": 1e-4}


@pytest.mark.parametrize(("name", "num_frozen"), SPLITS)
def test_stem_and_tail_together_are_the_backbone(name: str, num_frozen: int, frames: torch.Tensor) -> None:
    backbone = _with_lively_norms(build_backbone(name))
    stem, tail = Stem(backbone, num_frozen), Tail(backbone, num_frozen).eval()
    with torch.no_grad():
        wanted = backbone(frames)
        tolerance = _tolerance(name)
        tolerance["atol"] *= max(1.0, float(wanted.abs().max()))  # random deep networks blow features and rounding up
        torch.testing.assert_close(tail(stem(frames)), wanted, **tolerance)


@pytest.mark.parametrize(("name", "num_frozen"), [split for split in SPLITS if split[1] < 19])
def test_trained_tail_comes_back_into_the_backbone(name: str, num_frozen: int, frames: torch.Tensor) -> None:
    backbone = _with_lively_norms(build_backbone(name))
    stem, tail = Stem(backbone, num_frozen), Tail(backbone, num_frozen).eval()
    with torch.no_grad():
        for parameter in tail.parameters():
            parameter.mul_(1.01)
        trained = tail(stem(frames))
        assert not torch.allclose(trained, backbone(frames), rtol=1e-2, atol=1e-3)  # something was trained
        tail.write_to(backbone, num_frozen)
        torch.testing.assert_close(trained, backbone(frames), **_tolerance(name))


def test_a_level_inside_the_frozen_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="level 13 lies inside the 15 frozen blocks"):
        Tail(build_backbone("mobilenet_v2_levels"), 15)


def test_more_frozen_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="20 frozen blocks, but the backbone has 19"):
        Tail(build_backbone("mobilenet_v2"), 20)


def test_without_frozen_blocks_the_stem_hands_frames_on(frames: torch.Tensor) -> None:
    assert torch.equal(Stem(build_backbone("mobilenet_v2"), 0)(frames), frames)


def test_the_subcategory_output_leaves_the_others_as_they_are() -> None:
    heads = []
    for number in (0, 46):
        torch.manual_seed(0)
        heads.append(TemporalHead(HeadConfig(feature_dim=12, width=16, num_subcategories=number)).eval())
    plain, finer = heads
    clips = torch.randn(3, 5, 12)
    logits, attention, embedding = finer(clips)
    assert torch.equal(logits, plain(clips)[0])
    assert torch.equal(attention, plain(clips)[1])
    assert finer.classify_subcategories(embedding).shape == (3, 46)
    assert {*finer.state_dict()} - {*plain.state_dict()} == {
        "subcategory_classifier.weight",
        "subcategory_classifier.bias",
    }
    with pytest.raises(ValueError, match="trained without subcategories"):
        plain.classify_subcategories(embedding)


@pytest.mark.parametrize("content", [b"", b"no weights", None], ids=["empty", "text", "missing"])
def test_damaged_weights_are_named(tmp_path, content: bytes | None) -> None:
    for name in ("weights.safetensors", "weights.pth", "weights.safetensors.xz"):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name} does not hold weights"):
            build_backbone("mobilenet_v2", path)


def test_weights_of_torchvision_and_our_own_load(tmp_path, frames: torch.Tensor) -> None:
    original = build_backbone("mobilenet_v2")
    ours, torchvisions = tmp_path / "ours.safetensors", tmp_path / "torchvision.pth"
    save_file(original.state_dict(), ours)
    plain = {name.removeprefix("body."): tensor for name, tensor in original.state_dict().items()}
    del plain["mean"], plain["std"]
    torch.save({**plain, "classifier.1.weight": torch.zeros(1000, 1280)}, torchvisions)
    with torch.no_grad():
        for path in (ours, torchvisions):
            assert torch.equal(build_backbone("mobilenet_v2", path)(frames), original(frames))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(ConfigError, match=r"other\.safetensors holds weights of another network"):
        build_backbone("mobilenet_v2", path)


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown backbone 'vgg'"):
        build_backbone("vgg")


def _with_lively_norms(backbone: nn.Module) -> nn.Module:
    """Batch norms as training leaves them, not the identity of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                for tensor, low in (
                    (module.running_mean, -0.1),
                    (module.bias, -0.1),
                    (module.running_var, 0.8),
                    (module.weight, 0.8),
                ):
                    tensor.copy_(low + torch.rand(tensor.shape, generator=generator) * (0.2 if low < 0 else 0.4))
    return backbone


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_v2_s"])
def test_where_torchvisions_hub_cannot_be_reached_file_and_option_are_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    with pytest.raises(ConfigError, match=rf"could not download ({name}-\w+\.pth) .*backbone\.weights = '/path/\1'"):
        build_backbone(name, "hub")
