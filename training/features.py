"""Samples to cached activations: the frozen beginning of the backbone is computed once per damaged copy.

A cache file holds one variant of all samples, float16 [F, h, w, C], memory-mapped; its name is a hash of the files'
contents, the preprocessing and the frozen weights, so a stale cache cannot be read by mistake.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from reelkind.core.video import read_clip

from .augment import VERSION, augment_clip
from .config import AugmentConfig, BackboneConfig
from .data import Sample, content_hash
from .folding import Stem

logger = logging.getLogger(__name__)

CLEAN = -1  # number of the undamaged variant: exactly what serving sees
FRAMES_PER_BATCH = 64


@dataclass(frozen=True)
class Activations:
    """One variant of some samples.

    Attributes:
        values: float16 [F, h, w, C], frames of sample 0, then of sample 1, ...
        starts: int64 [N], where each sample's frames start.
        stops: int64 [N], where they end.
    """

    values: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def of_counts(cls, values: np.ndarray, counts: Sequence[int]) -> Activations:
        """Samples one after another, ``counts`` frames each."""
        stops = np.cumsum(counts, dtype=np.int64)
        return cls(values, stops - np.asarray(counts), stops)

    def of(self, sample: int) -> np.ndarray:
        """float16 [frames of the sample, h, w, C]."""
        return self.values[self.starts[sample] : self.stops[sample]]

    def select(self, samples: np.ndarray) -> Activations:
        """Some samples, in the order given, without copying their frames."""
        return Activations(self.values, self.starts[samples], self.stops[samples])

    def take(self, samples: Iterable[int]) -> Activations:
        """Some samples, in the order given, and no others' frames (copies)."""
        parts = [self.of(i) for i in samples]
        return Activations.of_counts(np.concatenate(parts), [len(part) for part in parts])


@dataclass(frozen=True)
class ActivationStore:
    """Computes activations or finds them in ``folder``."""

    folder: Path
    stem: Stem
    backbone: BackboneConfig
    augment: AugmentConfig
    num_frames: int
    seed: int

    def clean(self, samples: Sequence[Sample]) -> Activations:
        """Undamaged: T frames of clips, the one of stills."""
        return self.variants(samples, [CLEAN])[0]

    def variants(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[Activations]:
        """The variants with these numbers; missing ones are computed in one pass over the files."""
        digest = self.digest(samples)
        paths = {number: self.folder / f"{digest}_{number}.npy" for number in numbers}
        missing = [number for number in numbers if not paths[number].is_file()]
        if missing:
            logger.info("computing %d variants of %d samples", len(missing), len(samples))
            self._compute(samples, missing, paths)
        result = []
        for number in numbers:
            counts = [self._frames_of(sample, number) for sample in samples]
            result.append(Activations.of_counts(np.load(paths[number], mmap_mode="r"), counts))
        return result

    def _frames_of(self, sample: Sample, number: int) -> int:
        if sample.is_still:
            return 1
        return self.augment.clean_frames_per_clip if number == CLEAN else self.augment.frames_per_clip

    def digest(self, samples: Sequence[Sample]) -> str:
        """Changes with the files' contents, the preprocessing and the frozen weights."""
        digest = hashlib.sha256()
        for sample in samples:
            digest.update(content_hash(sample.path).encode())
        for tensor in self.stem.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        augment = {key: value for key, value in asdict(self.augment).items() if key != "num_variants"}
        settings = [VERSION, augment, self.backbone.frame_size_px, self.num_frames, self.seed]
        digest.update(json.dumps(settings).encode())
        return digest.hexdigest()[:24]

    def _compute(self, samples: Sequence[Sample], numbers: Sequence[int], paths: dict[int, Path]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = {number: paths[number].with_suffix(".partial.npy") for number in numbers}
        outputs: dict[int, np.memmap] = {}
        written = dict.fromkeys(numbers, 0)
        totals = {number: sum(self._frames_of(sample, number) for sample in samples) for number in numbers}
        for number, values in self._batches(self._frames(samples, numbers)):
            if number not in outputs:
                shape = (totals[number], *values.shape[1:])
                outputs[number] = np.lib.format.open_memmap(partial[number], "w+", np.float16, shape)
            outputs[number][written[number] : written[number] + len(values)] = values
            written[number] += len(values)
        for number in numbers:
            outputs[number].flush()
            partial[number].rename(paths[number])

    def _frames(self, samples: Sequence[Sample], numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Variant number and uint8 RGB [n, S, S, 3] of every sample, file by file."""
        size_px = self.backbone.frame_size_px
        for i, sample in enumerate(tqdm(samples, desc="frames", unit="file", mininterval=5)):
            source = None
            for number in numbers:
                count = self._frames_of(sample, number)
                if number == CLEAN:
                    yield number, read_clip(sample.path, num_frames=count, size_px=size_px).frames
                    continue
                if source is None:
                    source_px, available = self.augment.source_size_px, 1 if sample.is_still else self.num_frames
                    source = read_clip(sample.path, num_frames=available, size_px=source_px).frames
                rng = np.random.default_rng([self.seed, number, i])
                yield number, augment_clip(source, count, size_px, rng)

    def _batches(self, frames: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Activations in batches that mix variants, given back variant by variant."""
        waiting: list[tuple[int, np.ndarray]] = []
        for item in frames:
            waiting.append(item)
            if sum(len(images) for _, images in waiting) >= FRAMES_PER_BATCH:
                yield from self._run(waiting)
                waiting = []
        if waiting:
            yield from self._run(waiting)

    @torch.inference_mode()
    def _run(self, items: Sequence[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        images = torch.from_numpy(np.concatenate([images for _, images in items])).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            values = self.stem(images)  # [n, C, h, w]
        values = values.to(torch.float16).permute(0, 2, 3, 1).numpy()
        start = 0
        for number, part in items:
            yield number, values[start : start + len(part)]
            start += len(part)
