"""Decoded frames of a clip or still to a damaged copy: other framing, colours, resolution and codec.

Every class is damaged alike, so that GIF palettes, letterboxes, burnt-in text, blocking or a low resolution,
which come with the sources of a class and not with its nature, give nothing away.
"""

from __future__ import annotations

import io
import string
from collections.abc import Callable, Sequence
from typing import TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFilter

VERSION = 3  # part of every cache key: raise it whenever the same seed gives other pixels

WORKING_SIZES_PX = (96, 128, 160, 192, 224, 256)
WORKING_SIZE_SHARES = (0.05, 0.10, 0.15, 0.20, 0.30, 0.20)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601

T = TypeVar("T")

Box = np.ndarray  # left, top, right, bottom as shares of the frame


def augment_clip(frames: np.ndarray, num_frames: int, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """One damaged copy; what is drawn at random is drawn once for the whole clip.

    Args:
        frames: uint8 RGB [N, H, W, 3]; a still is N = 1 and gets a pan or zoom half of the time.
        num_frames: T frames of the copy, one from each of T equal segments.
        size_px: S.
        rng: source of all randomness.

    Returns:
        uint8 RGB [T, S, S, 3].
    """
    count = len(frames)
    chosen = [int((i + rng.random()) * count / num_frames) for i in range(num_frames)]
    start = _crop_box(rng)
    end = start
    if count == 1 and rng.random() < 0.5:
        end = 0.6 * start + 0.4 * _crop_box(rng)
    flipped = rng.random() < 0.5
    working_px = int(rng.choice(WORKING_SIZES_PX, p=WORKING_SIZE_SHARES))
    images = []
    for position, i in zip(np.linspace(0, 1, num_frames), chosen, strict=True):
        image = _resized_crop(frames[i], start * (1 - position) + end * position, working_px)
        images.append(image[:, ::-1] if flipped else image)
    clip = np.stack(images)
    for probability, damage in _DAMAGES:
        if rng.random() < probability:
            clip = damage(clip, rng)
    clip = _recompress(clip, rng)
    if working_px == size_px:
        return clip
    upwards = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    smooth = Image.Resampling.BOX if working_px > size_px else _choose(rng, upwards)
    return np.stack([_resize(image, (size_px, size_px), smooth) for image in clip])


def _crop_box(rng: np.random.Generator) -> Box:
    area = rng.uniform(0.35, 1.0) if rng.random() < 0.75 else 1.0
    aspect = np.exp(rng.uniform(-0.25, 0.25))
    width, height = min(1.0, np.sqrt(area * aspect)), min(1.0, np.sqrt(area / aspect))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return np.array([left, top, left + width, top + height])


def _resized_crop(image: np.ndarray, box: Box, size_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    pixels = tuple(np.clip(box, 0, 1) * (width, height, width, height))
    shrinks = (box[2] - box[0]) * width >= size_px
    smooth = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), smooth, box=pixels))


def _resize(image: np.ndarray, size: tuple[int, int], smooth: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, smooth))


def _shift_tones(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness and a colour cast."""
    tones = (np.arange(256) / 255) ** np.exp(rng.uniform(-0.25, 0.25)) * 255
    tones = (tones - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-20, 20)
    table = np.clip(tones[:, None] * rng.uniform(0.93, 1.07, 3), 0, 255).astype(np.uint8)
    return np.stack([table[clip[..., channel], channel] for channel in range(3)], axis=-1)


def _shift_saturation(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    saturation = rng.uniform(0.4, 1.4) if rng.random() < 0.75 else 0.0
    grey = clip.astype(np.float32) @ LUMA
    mixed = saturation * clip + (1 - saturation) * grey[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _blur(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kernel = ImageFilter.GaussianBlur(rng.uniform(0.4, 1.3))
    return np.stack([np.asarray(Image.fromarray(image).filter(kernel)) for image in clip])


def _add_noise(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, rng.uniform(2, 8), clip.shape)
    return np.clip(np.rint(clip + noise), 0, 255).astype(np.uint8)


def _letterbox(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bars above and below, or left and right; mostly black."""
    side = clip.shape[1]
    bar = int(rng.uniform(0.04, 0.2) * side)
    framed = np.full_like(clip, 0 if rng.random() < 0.8 else 255)
    inner = side - 2 * bar
    if rng.random() < 0.6:
        framed[:, bar : bar + inner] = [_resize(image, (side, inner), Image.Resampling.BOX) for image in clip]
    else:
        framed[:, :, bar : bar + inner] = [_resize(image, (inner, side), Image.Resampling.BOX) for image in clip]
    return framed


def _burn_in_text(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A subtitle or a watermark, so that letters alone do not mean slides."""
    letters = string.ascii_letters + string.digits + " " * 12
    text = "".join(_choose(rng, letters) for _ in range(int(rng.integers(5, 30))))
    side = clip.shape[1]
    top = rng.uniform(0.8, 0.93) if rng.random() < 0.7 else rng.uniform(0.03, 0.2)
    place = (rng.uniform(0, 0.3) * side, top * side)
    marked = []
    for image in clip:
        picture = Image.fromarray(image)
        ImageDraw.Draw(picture).text(place, text, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
        marked.append(np.asarray(picture))
    return np.stack(marked)


_DAMAGES: tuple[tuple[float, Callable[[np.ndarray, np.random.Generator], np.ndarray]], ...] = (
    (0.70, _shift_tones),
    (0.35, _shift_saturation),
    (0.10, _blur),
    (0.10, _add_noise),
    (0.20, _letterbox),
    (0.12, _burn_in_text),
)


def _recompress(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG 20 %, H.264 30 %, a GIF palette 15 %, else nothing."""
    draw = rng.random()
    if draw < 0.20:
        return np.stack([_jpeg(image, int(rng.uniform(15, 90))) for image in clip])
    if draw < 0.50:
        return _h264(clip, int(rng.integers(18, 38)))
    if draw < 0.65:
        return _palette(clip, _choose(rng, (32, 64, 128, 256, 256)), dithered=rng.random() < 0.6)
    return clip


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _palette(clip: np.ndarray, num_colours: int, dithered: bool) -> np.ndarray:
    middle = Image.fromarray(clip[len(clip) // 2])
    method = Image.Quantize.FASTOCTREE if num_colours > 64 else Image.Quantize.MEDIANCUT
    palette = middle.quantize(num_colours, method=method, dither=Image.Dither.NONE)
    dither = Image.Dither.FLOYDSTEINBERG if dithered else Image.Dither.NONE
    return np.stack(
        [np.asarray(Image.fromarray(image).quantize(palette=palette, dither=dither).convert("RGB")) for image in clip]
    )


def _h264(clip: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode; ``quality`` is x264's constant rate factor."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": str(quality), "preset": "ultrafast"})
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for image in clip:
            container.mux(stream.encode(VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
