"""Name, dtype and shape of every tensor that crosses a model's border.

Axis letters, the same everywhere:

    B videos, V views (test-time augmentation), T frames, H height, W width, C=3 RGB,
    S side of the square the backbone sees, D backbone features, K classes, E embedding width,
    P passes through the head: every view in every order of time.

B, V, P, T, H and W are free at run time; S, D and E belong to a bundle; C and K are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .taxonomy.classes import NUM_CLASSES, NUM_SUBCATEGORIES

CONTRACT_VERSION = "1"  # of tensors and handshake; a client refuses another
FREE_AXES = frozenset("BVPTHWD")  # D in what all members share

_TRITON_TYPES = {"uint8": "UINT8", "float16": "FP16", "float32": "FP32", "int64": "INT64"}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the contract.

    Attributes:
        name: the tensor's name on the wire and in the ONNX graph.
        dtype: NumPy dtype.
        shape: axis letters for free axes, integers for fixed ones; axis 0 is always ``"B"``.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[str | int, ...]

    def __post_init__(self) -> None:
        if not self.shape or self.shape[0] != "B":
            raise ValueError(f"tensor {self.name!r}: axis 0 must be the batch axis 'B', got {self.shape}")
        unknown = [axis for axis in self.shape if isinstance(axis, str) and axis not in FREE_AXES]
        if unknown:
            raise ValueError(f"tensor {self.name!r}: unknown free axes {unknown}, known: {sorted(FREE_AXES)}")

    @property
    def triton_dims(self) -> list[int]:
        """``dims`` of config.pbtxt: without the batch axis, -1 for free axes."""
        return [axis if isinstance(axis, int) else -1 for axis in self.shape[1:]]

    @property
    def wire_type(self) -> str:
        """Datatype of the KServe v2 protocol, e.g. ``"FP32"``."""
        return _TRITON_TYPES[self.dtype.name]

    @property
    def triton_type(self) -> str:
        """Datatype of config.pbtxt, e.g. ``"TYPE_FP32"``."""
        return f"TYPE_{self.wire_type}"

    def named(self, name: str) -> TensorSpec:
        """The same tensor under another name."""
        return TensorSpec(name, self.dtype, self.shape)

    def check(self, array: np.ndarray) -> None:
        """Compare an array with the contract; equal letters must have equal lengths.

        Raises:
            ValueError: naming the tensor, what was given and what is required.
        """
        given = f"{array.dtype}{list(array.shape)}"
        required = f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        lengths: dict[str, int] = {}
        fits = array.dtype == self.dtype and array.ndim == len(self.shape) and 0 not in array.shape
        for axis, length in zip(self.shape, array.shape, strict=False):
            fits = fits and length == (axis if isinstance(axis, int) else lengths.setdefault(axis, length))
        if not fits:
            raise ValueError(f"tensor {self.name!r} is {given}, required is {required} with no axis empty")


_U8 = np.dtype(np.uint8)
_F32 = np.dtype(np.float32)

FRAMES = TensorSpec("frames", _U8, ("B", "T", "H", "W", 3))
"""RGB, 0 .. 255, top row first: decoded frames in order of time, any height and width."""

LOGITS = TensorSpec("logits", _F32, ("B", "V", NUM_CLASSES))
"""Class scores before temperature and softmax, in the order of ``taxonomy.CLASSES``."""

SUBCATEGORY_LOGITS = TensorSpec("subcategory_logits", _F32, ("B", "V", NUM_SUBCATEGORIES))
"""Scores of the subcategories, in the order of ``taxonomy.subcategories()``; of heads that have this output."""

FRAME_LOGITS = TensorSpec("frame_logits", _F32, ("B", "V", "T", NUM_CLASSES))
"""Each frame's own logits; their mean, weighted by attention, is the clip's ``logits``."""

VIEW_ATTENTION = TensorSpec("attention", _F32, ("B", "V", "T"))
"""Weight of each frame in each view's pooled embedding: >= 0, sums to 1 over T."""

ANY_FEATURES = TensorSpec("features", _F32, ("B", "V", "T", "D"))
"""``features`` of whichever member."""

PASSES = TensorSpec("passes", _F32, ("B", "P", "T", "D"))
"""Features rearranged along T: all orders of the first view, then those of the second, and so on."""

PASS_ATTENTION = TensorSpec("pass_attention", _F32, ("B", "P", "T"))
"""Attention of rearranged features, in their order."""

FRAME_ATTENTION = TensorSpec("frame_attention", _F32, ("B", "P", "T"))
"""The same weights where the frames stood before they were rearranged; sums to 1 over T."""

PROBABILITIES = TensorSpec("probabilities", _F32, ("B", NUM_CLASSES))
"""Calibrated class probabilities, averaged over views and members; sums to 1."""

PASS_FRAME_LOGITS = TensorSpec("pass_frame_logits", _F32, ("B", "P", "T", NUM_CLASSES))
"""Frames' logits of rearranged features, in their order."""

RESTORED_FRAME_LOGITS = TensorSpec("restored_frame_logits", _F32, ("B", "P", "T", NUM_CLASSES))
"""Frames' logits where the frames stood before they were rearranged, the same in every pass of a view: the mean of
those passes of the view in which the frame has a place."""

FRAME_PROBABILITIES = TensorSpec("frame_probabilities", _F32, ("B", "T", NUM_CLASSES))
"""What each frame shows, seen among the others: calibrated as ``probabilities`` are, averaged over views and members;
sums to 1 over the classes."""

SUBCATEGORIES = TensorSpec("subcategories", _F32, ("B", NUM_SUBCATEGORIES))
"""Probabilities in the order of ``taxonomy.subcategories()``; those of a class sum to the class's probability."""

ATTENTION = TensorSpec("attention", _F32, ("B", "T"))
"""Attention averaged over views and members; sums to 1 over T."""


def views(frame_size_px: int) -> TensorSpec:
    """Preprocessed frames, RGB 0 .. 255, channels first: uint8 [B, V, T, 3, S, S]."""
    return TensorSpec("views", _U8, ("B", "V", "T", 3, frame_size_px, frame_size_px))


def features(feature_dim: int) -> TensorSpec:
    """Pooled backbone features: float32 [B, V, T, D]."""
    return TensorSpec("features", _F32, ("B", "V", "T", feature_dim))


def member_features(member: str, feature_dim: int | str = "D") -> TensorSpec:
    """The features of one member among others, on the wire as in files."""
    return TensorSpec(f"features_{member}", _F32, ("B", "V", "T", feature_dim))


def view_embedding(embedding_dim: int) -> TensorSpec:
    """Attention-pooled vector of each view: float32 [B, V, E]."""
    return TensorSpec("embedding", _F32, ("B", "V", embedding_dim))


def embedding(embedding_dim: int) -> TensorSpec:
    """Embedding averaged over views, members side by side: float32 [B, E]."""
    return TensorSpec("embedding", _F32, ("B", embedding_dim))
