"""Labelled files to the logits of a bundle's served graphs, in this process; answers are kept by content."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelkind.core.bundle import weights_hash
from reelkind.core.errors import ReelkindError
from reelkind.core.features import tensor_name
from reelkind.core.files.whole_files import whole_file
from reelkind.core.tensors import CONTRACT_VERSION

if TYPE_CHECKING:
    from reelkind.client import Decoder

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class MemberAnswer:
    """What one member makes of one file.

    Attributes:
        logits: float32 [P, K]; the first pass is the plain one.
        features: float32 [D], mean of the first view's frame features.
    """

    logits: np.ndarray
    features: np.ndarray


class Member:
    """One bundle's graphs over files, decoded in processes of their own as the client does.

    Args:
        folder: the bundle's.
        decoder: shared by the members.
        cache: folder of kept answers, named by weights and by the file's content.
        tta: whether with all views and orders of time, see ``core.specs.TTA``.

    Raises:
        ReelkindError: if there is no such bundle, or its graphs are missing.
    """

    def __init__(self, folder: Path, decoder: Decoder, cache: Path, tta: bool) -> None:
        from reelkind.core.specs import MAX_PASSES, TEMPORAL_VIEWS, VIEWS
        from reelkind.export.pipelines.reference import OnnxPipeline

        self._pipeline = OnnxPipeline(folder, views="tta" if tta else "single", temporal=tta)
        (self.bundle,) = self._pipeline.members
        self._decoder = decoder
        self._num_passes = MAX_PASSES if tta else 1
        passes = zlib.crc32(repr((VIEWS, TEMPORAL_VIEWS)).encode())
        read = f"{self.bundle.num_frames}x{self.bundle.backbone.frame_size_px}_v{CONTRACT_VERSION}_{passes:08x}"
        self._cache = cache / f"{self.bundle.name}_{weights_hash(self.bundle)[:16]}_{read}"

    def answer(self, path: Path) -> MemberAnswer:
        """Logits and features of one file.

        Raises:
            ReelkindError: if it cannot be read.
        """
        from reelkind.core.errors import VideoError
        from reelkind.datasets.sample import content_hash

        try:
            kept = self._cache / f"{content_hash(path)}.npz"
        except OSError as error:
            raise VideoError(path, f"cannot be read: {error.strerror or error}") from error
        known = _load(kept)
        if known is None or len(known.logits) < self._num_passes:
            known = self._predict(path)
            _store(kept, known)
        return MemberAnswer(known.logits[: self._num_passes], known.features)

    def _predict(self, path: Path) -> MemberAnswer:
        bundle = self.bundle
        decoded = self._decoder.decode(path, num_frames=bundle.num_frames, size_px=bundle.backbone.frame_size_px)
        tensors = self._pipeline(decoded.clip.frames[None])
        return MemberAnswer(tensors[f"logits_{bundle.name}"][0], tensors[tensor_name(bundle.name)][0, 0].mean(axis=0))


def answers(
    member: Member, files: Mapping[str, Path], num_workers: int, advance: Callable[[], object]
) -> tuple[dict[str, MemberAnswer], dict[str, str]]:
    """Answers by name in the order of ``files``, and why the rest has none; ``advance`` is called once a file."""
    found: dict[str, MemberAnswer] = {}
    problems: dict[str, str] = {}
    pool = ThreadPoolExecutor(num_workers)
    try:
        futures = {pool.submit(member.answer, path): name for name, path in files.items()}
        for future in as_completed(futures):
            name = futures[future]
            try:
                found[name] = future.result()
            except ReelkindError as error:
                problems[name] = str(getattr(error, "reason", error))
                print(f"reelkind: {files[name]}: {problems[name]}", file=sys.stderr)
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return {name: found[name] for name in files if name in found}, problems


def _load(path: Path) -> MemberAnswer | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return MemberAnswer(arrays["logits"], arrays["features"])
    except _UNREADABLE:  # not there, or cut off by a full disk: it is made again
        return None


def _store(path: Path, answer: MemberAnswer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:  # another process may be answering a file with the same content
        np.savez(file, logits=answer.logits, features=answer.features)
