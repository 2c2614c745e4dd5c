"""Backbone features of one video, with what they are of and how they were made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .errors import ReelkindError
from .tensors import member_features
from .timing.clips import EXACT

RULE_VERSION = "1"  # of choosing, decoding and scaling frames; another one gives other pixels
CLIP, STREAM = "clip", "stream"


class FeaturesError(ReelkindError):
    """Features are missing, damaged, or made with something else than what is asked for.

    Attributes:
        reason: one sentence without the name.
        called: what the features are called, mostly a path; None if that is not known.
    """

    def __init__(self, reason: str, called: str | None = None) -> None:
        super().__init__(reason, called)
        self.reason = reason
        self.called = called

    def __str__(self) -> str:
        return self.reason if self.called is None else f"{self.called}: {self.reason}"


@dataclass(frozen=True)
class Recipe:
    """What features depend on besides the video.

    Attributes:
        kind: ``"clip"`` for T frames spread over the video, which are classified; ``"stream"`` for frames at a fixed
            rate, which serve timelines.
        members: names of the members, in the server's order.
        weights: SHA-256 of each member's weights.
        views: spatial views, the first of which is the frame itself.
        num_frames: T of the members.
        frame_size_px: S, the square that frames were decoded to.
        rate: frames a second of a stream, 0.0 of a clip.
        seek: how a clip's frames were found, one of ``core.timing.clips.SEEKS``.
    """

    kind: str
    members: tuple[str, ...]
    weights: tuple[str, ...]
    views: tuple[str, ...]
    num_frames: int
    frame_size_px: int
    rate: float = 0.0
    seek: str = EXACT

    def describe(self) -> dict[str, str]:
        """As text, for metadata and keys."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        found = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}
        if self.seek == EXACT:
            del found["seek"]  # as in files of releases that knew nothing else
        return {**found, "rule_version": RULE_VERSION}


@dataclass(frozen=True)
class Source:
    """The video that features were made of: its file's name, SHA-256 and size."""

    name: str
    sha256: str
    num_bytes: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """Read a file through once.

        Raises:
            OSError: if it cannot be read.
        """
        with open(path, "rb") as file:  # noqa: PTH123 (pathlib refuses null bytes with another error)
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        return cls.known(path, digest.hexdigest(), size)

    @classmethod
    def known(cls, path: str | os.PathLike[str], sha256: str, num_bytes: int) -> Source:
        """A file whose contents were read before."""
        name = os.path.basename(os.fspath(path))  # noqa: PTH119
        return cls(name.encode("utf-8", "backslashreplace").decode(), sha256, num_bytes)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of one video.

    Attributes:
        recipe: what they depend on besides the video.
        source: the video.
        arrays: member -> float32 [V, T, D].
        times_ms: int64 [T], presentation time of each frame from the start of the video, ascending.
        duration_ms: of a stream, where its pictures end; 0 of a clip.
        num_stand_ins: of a clip, key frames among them that stand in for a later frame.
    """

    recipe: Recipe
    source: Source
    arrays: Mapping[str, npt.NDArray[np.float32]]
    times_ms: npt.NDArray[np.int64]
    duration_ms: int = 0
    num_stand_ins: int = 0

    def first_views(self, num_views: int) -> dict[str, npt.NDArray[np.float32]]:
        """Tensor name -> float32 [1, num_views, T, D], as a server takes them."""
        return {tensor_name(member): array[None, :num_views] for member, array in self.arrays.items()}

    def check_made_as(self, wanted: Recipe, called: str) -> None:
        """Compare how these were made with how a server would; more views than wanted are fine.

        Raises:
            FeaturesError: naming the features as ``called``, the difference and the way out.
        """
        found = self.recipe
        if found.kind != wanted.kind:
            use = "classify the video itself" if wanted.kind == CLIP else "extract again with a rate (--rate)"
            raise FeaturesError(f"features of a {found.kind}, needed are those of a {wanted.kind}: {use}", called)
        members = list(zip(found.members, found.weights, strict=True))
        if members != list(zip(wanted.members, wanted.weights, strict=True)):
            raise FeaturesError(
                f"made with {_named(found)}, asked is {_named(wanted)}: "
                "ask the member it was made with, extract again, or serve the bundles it was made with",
                called,
            )
        if found.views[: len(wanted.views)] != wanted.views:
            raise FeaturesError(
                f"features of the views {', '.join(found.views)}, needed are {', '.join(wanted.views)}: "
                "extract again with tta full, or classify with tta off or fast",
                called,
            )
        for name in ("num_frames", "frame_size_px", "rate"):
            if getattr(found, name) != getattr(wanted, name):
                raise FeaturesError(
                    f"made with {name} {getattr(found, name)}, needed is {getattr(wanted, name)}: extract again", called
                )


def tensor_name(member: str) -> str:
    """What a member's features are called, in files as on the wire."""
    return member_features(member).name


def _named(recipe: Recipe) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in zip(recipe.members, recipe.weights, strict=True))
