"""What ``reelkind promote`` asks of a new version before anybody gets its answers, and what it tells of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core import specs
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.serving.errors import ServingError

if TYPE_CHECKING:
    import numpy as np

    from reelkind.core.bundle import Bundle
    from reelkind.core.specs import Tolerance
    from reelkind.deployment.promote import Served
    from reelkind.export.pipelines.clips import ParityClip

    Tensors = Mapping[str, np.ndarray]
    Reference = Callable[[np.ndarray], Tensors]

NUM_CLIPS = 3  # where none are given
REFERENCE_PACKAGES = ("onnx", "onnxruntime")
_FEW_FRAMES = 2
_SUM_ERROR = 1e-3  # of probabilities, in FP16


@dataclass(frozen=True)
class _Row:
    clip: str
    before: np.ndarray  # probabilities [K]
    after: np.ndarray
    error: float | None  # largest difference of a probability from the reference


def read_clips(paths: Sequence[Path] | None, num_frames: int, size_px: int) -> list[ParityClip]:
    """The given videos, or three of the samples; pictures made here where there are no samples.

    Raises:
        ReelkindError: if one cannot be read.
    """
    from reelkind.export.pipelines.clips import default_clips, video_clips

    if paths is None:
        return list(islice(default_clips(size_px, [num_frames]), NUM_CLIPS))
    return list(video_clips(paths, size_px, [num_frames]))


class ClipCheck:
    """Asks the old and the new version about clips, and where it can the bundle's own graphs in this process.

    Args:
        clips: at least one.
        bundle: of the new version; None if it is one that has been served before.
        tolerance: how far the new version may be from the reference.
        precision: whose graphs are the reference, ``fp32`` or ``int8``.
    """

    def __init__(
        self,
        clips: Sequence[ParityClip],
        bundle: Bundle | None = None,
        tolerance: Tolerance = specs.FP32_TOLERANCE,
        precision: str = "fp32",
    ) -> None:
        self._clips, self._bundle, self._tolerance, self._precision = clips, bundle, tolerance, precision
        self._rows: list[_Row] = []

    def __call__(self, before: Mapping[str, Served], after: Mapping[str, Served]) -> None:
        """Compare every changed ensemble as it answers now with the same as it would answer.

        Raises:
            ServingError: if an answer of the new version is not what it should be.
        """
        classifying = [name for name, served in after.items() if served.kind == "classify"]
        if not classifying:
            raise ServingError("no ensemble that would change takes frames: there is nothing to check it with")
        plainest = min(classifying, key=lambda name: (len(after[name].members), after[name].num_steps, name))
        reference = self._reference(after[plainest].members)
        for clip in self._clips:
            feeds = {"frames": clip.frames[None]}
            old, new = before[plainest](feeds), after[plainest](feeds)
            _require_sound(f"{plainest} on {clip.name}", old, new)
            self._judge(clip, old, new, reference)
        for name in classifying:  # that they are wired well shows in a few frames
            feeds = {"frames": self._clips[0].frames[None, :_FEW_FRAMES]}
            _require_sound(name, before[name](feeds), after[name](feeds))
        if self._bundle is not None and reference is None:
            self._require_likeness()

    def report(self) -> str:
        """A table of the clips, and what the new version was compared with."""
        rows = [f"{'CLIP':<30} {'BEFORE':<17} {'AFTER':<17} {'CHANGE':>8} {'REFERENCE':>10}"]
        for row in self._rows:
            error = "" if row.error is None else f"{row.error:.1e}"
            change = float(abs(row.after - row.before).max())
            line = f"{row.clip[:30]:<30} {_label(row.before):<17} {_label(row.after):<17} {change:>8.1e} {error:>10}"
            rows.append(line.rstrip())
        return "\n".join([*rows, self._method()])

    def _method(self) -> str:
        if self._bundle is None:
            return "checked: every answer is complete and finite; this version has been served before"
        if all(row.error is None for row in self._rows):
            missing = " and ".join(_missing_packages()) or "a member of its own"
            return f"checked: every answer is complete and finite; no reference without {missing}"
        return f"checked: as the bundle's graphs answer in this process, within {self._tolerance.max_abs:.0e}"

    def _reference(self, members: Sequence[str]) -> Reference | None:
        """The new version's graphs in this process, if they can run here and answer alone on the server."""
        if self._bundle is None or list(members) != [self._bundle.name] or _missing_packages():
            return None
        from reelkind.export.pipelines.reference import OnnxPipeline

        assert self._bundle.folder is not None
        return OnnxPipeline(self._bundle.folder, precision=self._precision)

    def _judge(self, clip: ParityClip, old: Tensors, new: Tensors, reference: Reference | None) -> None:
        after, error = new["probabilities"][0], None
        if reference is not None:
            expected = reference(clip.frames[None])["probabilities"][0]
            error = float(abs(after - expected).max())
            if error > self._tolerance.max_abs or expected.argmax() != after.argmax():
                raise ServingError(
                    f"not promoted, the server answers as before: on {clip.name} the new version says {_label(after)}, "
                    f"its bundle's graphs say {_label(expected)} (they differ by {error:.1e}, allowed is "
                    f"{self._tolerance.max_abs:.0e})"
                )
        self._rows.append(_Row(clip.name, old["probabilities"][0], after, error))

    def _require_likeness(self) -> None:
        """Without a reference, a version that calls most clips something else is taken for a broken one."""
        same = sum(bool(row.before.argmax() == row.after.argmax()) for row in self._rows)
        if 2 * same < len(self._rows):
            raise ServingError(
                f"not promoted, the server answers as before: the new version labels {len(self._rows) - same} of "
                f"{len(self._rows)} clips otherwise, and without {' and '.join(_missing_packages())} nothing here can "
                "tell whether it should: pip install 'reelkind[export]'"
            )


def _require_sound(what: str, old: Tensors, new: Tensors) -> None:
    import numpy as np

    since = {"frame_probabilities", "subcategories"} & old.keys()  # what the old version may not give yet
    for name in ("probabilities", "attention", "embedding", *sorted(since)):
        if new[name].shape != old[name].shape or not np.isfinite(new[name]).all():
            raise ServingError(f"not promoted, the server answers as before: {what} gives no sound {name}")
    if np.abs(new["probabilities"].sum(axis=1) - 1).max() > _SUM_ERROR:
        raise ServingError(f"not promoted, the server answers as before: probabilities of {what} do not sum to 1")


def _label(probabilities: np.ndarray) -> str:
    best = int(probabilities.argmax())
    return f"{CLASSES[best]} {probabilities[best]:.1%}"


def _missing_packages() -> list[str]:
    return [name for name in REFERENCE_PACKAGES if find_spec(name) is None]
