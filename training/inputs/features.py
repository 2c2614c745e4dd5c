"""Samples to cached activations: the frozen beginning of the backbone is computed once per damaged copy.

A cache file holds one variant of all samples, float16 [F, h, w, C] (tokens [F, L, D] of a transformer), or the uint8
frames if no block is frozen. It is memory-mapped; its name is a hash of the files' contents, the preprocessing and the
frozen weights, so a stale cache cannot be read by mistake. Where every block is frozen and features are all that is
kept, each sample has files of its own (`feature_files`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reelkind.datasets.sample import Sample
from reelkind.models.folding import Stem, Tail

from ..config import AugmentConfig, BackboneConfig
from ..optimisation.devices import CPU, autocast, inference_precision
from .augment import VERSION
from .feature_files import FeatureFiles
from .frames import CLEAN, FrameReader, Frames

logger = logging.getLogger(__name__)

FRAMES_PER_BATCH = 64


@dataclass(frozen=True)
class Activations:
    """One variant of some samples.

    Attributes:
        values: float16 [F, h, w, C], [F, L, D] or [F, D], or the uint8 frames themselves if no block is frozen; where
            nothing was selected, frames of sample 0, then of sample 1, ...
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
        """float16 [frames of the sample, ...]."""
        return self.values[self.starts[sample] : self.stops[sample]]

    def select(self, samples: np.ndarray) -> Activations:
        """Some samples, in the order given, without copying their frames."""
        return Activations(self.values, self.starts[samples], self.stops[samples])

    @property
    def frames(self) -> np.ndarray:
        """Places in ``values`` of all samples' frames, int64, one sample after another."""
        spans = zip(self.starts.tolist(), self.stops.tolist(), strict=True)
        return np.concatenate([np.arange(start, stop) for start, stop in spans])


def as_inputs(values: np.ndarray, device: torch.device = CPU) -> Tensor:
    """Cached values [N, h, w, C] to what a tail takes, float32 [N, C, h, w]; tokens and features stay as they are."""
    inputs = torch.from_numpy(values).to(device).float()
    return inputs.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


@torch.inference_mode()
def extract(
    tail: Tail, activations: Activations, batch_size: int = 64, precision: str = "bfloat16", device: torch.device = CPU
) -> Activations:
    """Features float32 [F, D] of activations [F, ...], in the order of the samples.

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
        inputs = as_inputs(activations.values[frames[start : start + batch_size]], device)
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
        if self.stem.gives_features:
            return self._features(samples, numbers)
        digest = self.digest(samples)
        paths = {number: self.folder / f"{digest}_{number}.npy" for number in numbers}
        missing = [number for number in numbers if not paths[number].is_file()]
        if missing:
            logger.info("computing %d variants of %d samples", len(missing), len(samples))
            self._compute(samples, missing, paths)
        result = []
        for number in numbers:
            counts = [self.reader.count(sample, number) for sample in samples]
            result.append(Activations.of_counts(np.load(paths[number], mmap_mode="r", allow_pickle=False), counts))
        return result

    def digest(self, samples: Sequence[Sample]) -> str:
        """Changes with the files' contents, the preprocessing and the frozen weights."""
        digest = hashlib.sha256()
        for sample in samples:
            digest.update(sample.content_hash.encode())
        augment = {key: value for key, value in asdict(self.augment).items() if key != "num_variants"}
        digest.update(self._settings(augment, self.num_frames, self.seed))
        return digest.hexdigest()[:24]

    def files(self, number: int) -> FeatureFiles:
        """Where a frozen backbone's features of a variant are, whatever the samples."""
        if number == CLEAN:
            settings = self._settings(self.augment.clean_frames_per_clip)
        else:
            others = ("num_variants", "clean_frames_per_clip")
            augment = {key: value for key, value in asdict(self.augment).items() if key not in others}
            settings = self._settings(augment, self.num_frames, self.seed, number)
        return FeatureFiles(self.folder / f"features_{hashlib.sha256(settings).hexdigest()[:24]}")

    def _settings(self, *values: Any) -> bytes:
        """Something that changes with the values and everything that all variants depend on."""
        device = self.stem.mean.device
        common = [VERSION, self.backbone.frame_size_px, self._weights_digest, inference_precision(device)]
        return json.dumps([*common, *values]).encode()

    @cached_property
    def _weights_digest(self) -> str:
        digest = hashlib.sha256()
        for tensor in self.stem.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _features(self, samples: Sequence[Sample], numbers: Sequence[int]) -> list[Activations]:
        files, hashes = {number: self.files(number) for number in numbers}, [each.content_hash for each in samples]
        self._compute_features(dict(zip(hashes, samples, strict=True)), files)
        result = []
        for number in numbers:
            parts = [files[number].read(content_hash) for content_hash in hashes]
            result.append(Activations.of_counts(np.concatenate(parts), [len(part) for part in parts]))
        return result

    def _compute_features(self, samples: Mapping[str, Sample], files: Mapping[int, FeatureFiles]) -> None:
        """Compute what is missing, each sample and variant on its own, so that no other decides how it is rounded."""
        missing: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for content_hash in samples:
            numbers = tuple(number for number in files if not files[number].has(content_hash))
            if numbers:
                missing[numbers].append(content_hash)
        if missing:
            logger.info("computing features of %d of %d samples", sum(map(len, missing.values())), len(samples))
        for numbers, hashes in missing.items():
            wanted = [samples[content_hash] for content_hash in hashes]
            for content_hash, variants in zip(hashes, self._read(wanted, numbers), strict=True):
                for number, frames in variants:
                    (_, values), *_ = self._run([(number, frames)])
                    files[number].write(content_hash, values)

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
        for variants in self._read(samples, numbers):
            yield from variants

    def _read(self, samples: Sequence[Sample], numbers: Sequence[int]) -> Iterator[Frames]:
        files = self.reader.read(samples, numbers)
        yield from tqdm(files, total=len(samples), desc="frames", unit="file", mininterval=5, disable=None)

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
        with autocast(device, inference_precision(device)):
            values = self.stem(images.to(device))  # [n, C, h, w], [n, L, D] or [n, D]
        if values.dtype != torch.uint8:
            values = values.to(torch.float16)
        if values.ndim == 4:
            values = values.permute(0, 2, 3, 1)
        values = values.cpu().numpy()
        start = 0
        for number, part in items:
            yield number, values[start : start + len(part)]
            start += len(part)
