"""Samples to cached activations: the frozen beginning of the backbone is computed once per damaged copy.

A cache file holds one variant of all samples, float16 [F, h, w, C], or the uint8 frames if no block is frozen. It is
memory-mapped; its name is a hash of the files' contents, the preprocessing and the frozen weights, so a stale cache
cannot be read by mistake.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .augment import VERSION
from .config import AugmentConfig, BackboneConfig
from .data import Sample
from .devices import CPU, autocast
from .folding import Stem, Tail
from .frames import CLEAN, FrameReader

logger = logging.getLogger(__name__)

FRAMES_PER_BATCH = 64


@dataclass(frozen=True)
class Activations:
    """One variant of some samples.

    Attributes:
        values: float16 [F, h, w, C], or the uint8 frames themselves if no block is frozen; where nothing was selected,
            frames of sample 0, then of sample 1, ...
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

    @property
    def frames(self) -> np.ndarray:
        """Places in ``values`` of all samples' frames, int64, one sample after another."""
        spans = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
        return np.concatenate([np.arange(start, stop) for start, stop in spans])


@torch.inference_mode()
def extract(
    tail: Tail, activations: Activations, batch_size: int = 64, precision: str = "bfloat16", device: torch.device = CPU
) -> Activations:
    """Features float32 [F, D] of activations [F, h, w, C], in the order of the samples.

    Args:
        tail: moved to ``device``.
        activations: their samples may have been selected from more.
        batch_size: frames at a time.
        precision: see `FinetuneConfig.precision`.
        device: where it computes.
    """
    tail = tail.to(device)
    frames, counts = activations.frames, activations.stops - activations.starts
    parts = []
    for start in range(0, len(frames), batch_size):
        values = torch.from_numpy(activations.values[frames[start : start + batch_size]]).to(device).float()
        inputs = values.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            parts.append(tail(inputs).float().cpu().numpy())
    return Activations.of_counts(np.concatenate(parts), counts)


@dataclass(frozen=True)
class ActivationStore:
    """Computes activations or finds them in ``folder``."""

    folder: Path
    stem: Stem
    backbone: BackboneConfig
    augment: AugmentConfig
    num_frames: int
    seed: int
    num_workers: int = 0

    @property
    def reader(self) -> FrameReader:
        """What reads the files."""
        size_px = self.backbone.frame_size_px
        return FrameReader(self.augment, size_px, self.num_frames, self.seed, self.num_workers)

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
            counts = [self.reader.count(sample, number) for sample in samples]
            result.append(Activations.of_counts(np.load(paths[number], mmap_mode="r"), counts))
        return result

    def digest(self, samples: Sequence[Sample]) -> str:
        """Changes with the files' contents, the preprocessing and the frozen weights."""
        digest = hashlib.sha256()
        for sample in samples:
            digest.update(sample.content_hash.encode())
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
        totals = {number: sum(self.reader.count(sample, number) for sample in samples) for number in numbers}
        for number, values in self._batches(self._frames(samples, numbers)):
            if number not in outputs:
                shape = (totals[number], *values.shape[1:])
                outputs[number] = np.lib.format.open_memmap(partial[number], "w+", values.dtype, shape)
            outputs[number][written[number] : written[number] + len(values)] = values
            written[number] += len(values)
        for number in numbers:
            outputs[number].flush()
            partial[number].rename(paths[number])

    def _frames(self, samples: Sequence[Sample], numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Variant number and uint8 RGB [n, S, S, 3] of every sample, file by file."""
        files = self.reader.read(samples, numbers)
        for variants in tqdm(files, total=len(samples), desc="frames", unit="file", mininterval=5):
            yield from variants

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
        device = self.stem.mean.device
        images = torch.from_numpy(np.concatenate([images for _, images in items])).permute(0, 3, 1, 2)
        with autocast(device, "bfloat16"):
            values = self.stem(images.to(device))  # [n, C, h, w]
        if values.dtype != torch.uint8:
            values = values.to(torch.float16)
        values = values.permute(0, 2, 3, 1).cpu().numpy()
        start = 0
        for number, part in items:
            yield number, values[start : start + len(part)]
            start += len(part)
