"""A trained bundle on disk: what it is, how good it is, where it came from, and its files.

    bundles/lite/
        bundle.json              this module's ``Bundle``
        backbone.safetensors     state dict of the backbone, FP16 (small statistics may be FP32); where it is stored as
                                 int8, onnx/backbone_*.safetensors, into which the graphs point
        head.safetensors         state dict of the temporal head, FP16
        onnx/*.onnx              the graphs the server runs, made by ``reelkind export onnx``
        README.md                the card: data, split, metrics with intervals, provenance, licence

Only JSON and hashes are handled here; tensors are read by ``training`` (torch) and executed from ONNX.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import ReelkindError
from .files.whole_files import write_whole
from .taxonomy.classes import CLASSES, NUM_SUBCATEGORIES, check_learnt

FORMAT_VERSION = 1
MANIFEST_NAME = "bundle.json"
BACKBONE_WEIGHTS_NAME = "backbone.safetensors"
HEAD_WEIGHTS_NAME = "head.safetensors"
HELD_OUT_NAME = "held_out.npz"  # what training left: predictions by models that never saw the work
ONNX_FOLDER = "onnx"
HASH_BLOCK_BYTES = 2**20
RESERVED_NAMES = frozenset({"ensemble", "tta", "features"})  # they stand for other things in names of models


class BundleError(ReelkindError):
    """A bundle is missing, incomplete or of another format; the message names the file and the way out."""


@dataclass(frozen=True)
class BackboneInfo:
    """The network that sees single frames.

    Attributes:
        name: of torchvision's or ours.
        feature_dim: D, width of its features.
        frame_size_px: S, side of the square it sees.
        storage: ``"float16"``, or ``"int8"`` for linear layers stored as integers and a scale for each output.
        weights: files of its state dict, relative to the bundle's folder.
    """

    name: str
    feature_dim: int
    frame_size_px: int
    storage: str = "float16"
    weights: tuple[str, ...] = (BACKBONE_WEIGHTS_NAME,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))  # JSON has lists
        if not self.weights:
            raise ValueError("the backbone has no files of weights")


@dataclass(frozen=True)
class HeadInfo:
    """Sizes of the temporal head.

    Attributes:
        feature_dim: D, width of the backbone's features.
        width: E, width of the projection, of both LSTM directions together and of the embedding.
        num_layers: bidirectional LSTM layers.
        num_attention_heads: heads of the self-attention; divides ``width``.
        dropout: probability used in training; nothing is dropped in inference.
        num_classes: K.
        num_subcategories: outputs of the second layer, which names the taxonomy's subcategories; 0 for none.
    """

    feature_dim: int
    width: int
    num_layers: int = 4
    num_attention_heads: int = 4
    dropout: float = 0.3
    num_classes: int = len(CLASSES)
    num_subcategories: int = 0

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_attention_heads):
            raise ValueError(
                f"head width {self.width} must be a multiple of 2 x num_attention_heads ({self.num_attention_heads})"
            )


@dataclass(frozen=True)
class Bundle:
    """Everything about a member but its weights.

    Attributes:
        name: the member's name, e.g. ``"lite"``; part of model names on the server.
        num_frames: T the bundle was trained and measured with.
        temperature: logits are divided by it before the softmax (arXiv:1706.04599).
        subcategories_learnt: names of the taxonomy's subcategories that there was enough material to learn; no other
            one is ever named. Empty where the head has no output for them.
        subcategory_temperature: as ``temperature``, of the logits of the subcategories.
        trained: False for seeded random weights, which serve structure and latency tests only.
        metrics: what was measured, with intervals.
        provenance: data, split, starting weights, licences.
        config: the resolved training configuration.
        folder: where it was read from; not stored.
    """

    name: str
    backbone: BackboneInfo
    head: HeadInfo
    num_frames: int
    temperature: float = 1.0
    classes: tuple[str, ...] = CLASSES
    trained: bool = True
    subcategories_learnt: tuple[str, ...] = ()
    subcategory_temperature: float = 1.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        if tuple(self.classes) != CLASSES:
            raise ValueError(f"bundle {self.name!r} has classes {self.classes}, this release knows {CLASSES}")
        if self.backbone.feature_dim != self.head.feature_dim:
            raise ValueError(
                f"bundle {self.name!r}: backbone gives {self.backbone.feature_dim} features, "
                f"head takes {self.head.feature_dim}"
            )
        if not self.name.isidentifier():
            raise ValueError(f"bundle name {self.name!r} must be letters, digits and '_' (it names models)")
        if self.name in RESERVED_NAMES:
            raise ValueError(f"bundle name {self.name!r} is taken: models of every deployment are named with it")
        self._check_subcategories()

    def _check_subcategories(self) -> None:
        if self.head.num_subcategories not in (0, NUM_SUBCATEGORIES):
            raise ValueError(
                f"bundle {self.name!r} has {self.head.num_subcategories} subcategories, this release knows "
                f"{NUM_SUBCATEGORIES}"
            )
        try:
            check_learnt(self.subcategories_learnt)
        except ValueError as error:
            raise ValueError(f"bundle {self.name!r}, subcategories_learnt: {error}") from None
        if self.subcategories_learnt and not self.has_subcategories:
            raise ValueError(f"bundle {self.name!r} has learnt subcategories, but its head has no output for them")
        if not 0 < self.subcategory_temperature < math.inf:
            raise ValueError(
                f"bundle {self.name!r}: subcategory_temperature must be above 0, got {self.subcategory_temperature}"
            )

    @property
    def has_subcategories(self) -> bool:
        """Whether the head has the second output."""
        return self.head.num_subcategories > 0

    @property
    def embedding_dim(self) -> int:
        """E, the width of the embedding."""
        return self.head.width

    @property
    def abstain_below(self) -> float | None:
        """Confidence below which validation says not to answer; None where nobody has measured one."""
        threshold = self.metrics.get("abstain", {}).get("abstain_below")
        return None if threshold is None else float(threshold)

    def path(self, *parts: str) -> Path:
        """A file of this bundle.

        Raises:
            BundleError: if the bundle was not read from or written to a folder.
        """
        if self.folder is None:
            raise BundleError(f"bundle {self.name!r} is not on disk yet")
        return self.folder.joinpath(*parts)


def load(folder: str | os.PathLike[str]) -> Bundle:
    """Read ``bundle.json``.

    Raises:
        BundleError: if the folder holds no bundle, or one of another format version.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"no bundle in {folder}: {MANIFEST_NAME} is missing") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no text
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path} does not describe a bundle: it holds no object")
    version = raw.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise BundleError(f"{path} has format version {version}, this release reads {FORMAT_VERSION}")
    try:
        backbone, head = BackboneInfo(**raw.pop("backbone")), HeadInfo(**raw.pop("head"))
        raw["subcategories_learnt"] = tuple(raw.get("subcategories_learnt", ()))
        return Bundle(backbone=backbone, head=head, classes=tuple(raw.pop("classes")), folder=Path(folder), **raw)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BundleError(f"{path} does not describe a bundle: {error}") from error


def save(bundle: Bundle, folder: str | os.PathLike[str]) -> Bundle:
    """Write ``bundle.json`` (creating the folder) whole or not at all, and return the bundle as read back.

    Raises:
        OSError: if it cannot be written; one that was there is still there then.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    raw = asdict(bundle)
    del raw["folder"]
    if not bundle.has_subcategories:  # says nothing, and releases without subcategories read the bundle, too
        del raw["subcategories_learnt"], raw["subcategory_temperature"]
    text = json.dumps({"format_version": FORMAT_VERSION, **raw}, indent=2, ensure_ascii=False)
    write_whole(path / MANIFEST_NAME, text + "\n")
    return load(path)


def weights_hash(bundle: Bundle) -> str:
    """SHA-256 over all files of weights: names the model in answers, caches and reports.

    Raises:
        BundleError: if a weight file is missing.
    """
    digest = hashlib.sha256()
    for name in (*bundle.backbone.weights, HEAD_WEIGHTS_NAME):
        path = bundle.path(name)
        if not path.is_file():
            raise BundleError(f"bundle {bundle.name!r} lacks {name} in {bundle.folder}")
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
