"""Samples to frames, undamaged and damaged, read in processes beside the one that computes with them."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from reelkind.datasets.sample import Sample
from reelkind.video.clip import read_clip

from ..config import AugmentConfig
from .augment import augment_clip

CLEAN = -1  # number of the undamaged variant: exactly what serving sees
FILES_AHEAD = 4  # a process; more only fills memory

Frames = list[tuple[int, np.ndarray]]


@dataclass(frozen=True)
class FrameReader:
    """Variants of samples: the same seed gives the same pixels, whatever is read and by how many processes.

    Attributes:
        augment: how variants are made.
        size_px: S.
        num_frames: frames of a clip that variants choose from, unless ``augment`` says another number.
        seed: of all variants.
        num_workers: processes that read; 0 reads here.
    """

    augment: AugmentConfig
    size_px: int
    num_frames: int
    seed: int
    num_workers: int = 0

    def count(self, sample: Sample, number: int) -> int:
        """Frames of a sample in a variant."""
        if sample.is_still:
            return 1
        return self.augment.clean_frames_per_clip if number == CLEAN else self.augment.frames_per_clip

    def read(self, samples: Sequence[Sample], numbers: Sequence[int]) -> Iterator[Frames]:
        """For each sample in turn, each variant's number and frames, uint8 RGB [n, S, S, 3].

        Raises:
            VideoError: if a file cannot be read.
        """
        if not self.num_workers:
            yield from (self.read_one(sample, numbers) for sample in samples)
            return
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with ProcessPoolExecutor(self.num_workers, mp_context=context) as pool:
            waiting: deque[Future[Frames]] = deque()
            try:
                for sample in samples:
                    waiting.append(pool.submit(self.read_one, sample, numbers))
                    if len(waiting) >= self.num_workers * FILES_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def read_one(self, sample: Sample, numbers: Sequence[int]) -> Frames:
        """Variants of a sample; what the file holds is part of the seed, its name and its place in a list are not."""
        result: Frames = []
        source = None
        for number in numbers:
            count = self.count(sample, number)
            if number == CLEAN:
                result.append((number, read_clip(sample.path, num_frames=count, size_px=self.size_px).frames))
                continue
            if source is None:
                available = 1 if sample.is_still else self.augment.source_frames or self.num_frames
                source = read_clip(sample.path, num_frames=available, size_px=self.augment.source_size_px).frames
            rng = np.random.default_rng([self.seed, number, int(sample.content_hash[:16], 16)])
            result.append((number, augment_clip(source, count, self.size_px, rng)))
        return result
