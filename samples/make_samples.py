"""Draws three of the four sample videos: a cartoon, slides, and camera-like footage from a photograph.

    python samples/make_samples.py --photo coffee.png --out samples

The photograph is scikit-image's ``coffee.png`` (CC0, Rachel Michetti; in the scikit-image wheel under
``skimage/data``). The game clip is a recording and is not made here: see README.md beside this file.
Deterministic: the same Pillow, NumPy and FFmpeg give the same pictures.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 15, 6
NUM_FRAMES = FPS * SECONDS
OVERSAMPLING = 2  # drawn larger, then reduced: Pillow's outlines are not smoothed

INK = "#2b1d14"


def cartoon(i: int) -> Image.Image:
    """A fellow with a red hat walks through hills; flat colours and dark outlines."""
    s, t = OVERSAMPLING, i / FPS
    image = Image.new("RGB", (WIDTH * s, HEIGHT * s), "#8fd6f5")
    draw = ImageDraw.Draw(image)

    def disc(x: float, y: float, rx: float, ry: float, fill: str, outline: str | None = INK, width: int = 3) -> None:
        draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill, outline, width * s)

    def limb(points: list[tuple[float, float]], fill: str, width: float) -> None:
        scaled = [(x * s, y * s) for x, y in points]
        draw.line(scaled, INK, int((width + 6) * s), joint="curve")
        draw.line(scaled, fill, int(width * s), joint="curve")

    disc(540, 70, 38, 38, "#ffdf4d")
    for k in range(3):
        x = (k * 260 + 40 - t * 14) % 760 - 60
        for dx, dy, r in ((-34, 6, 20), (0, -6, 30), (34, 6, 22), (0, 12, 26)):
            disc(x + dx, 70 + 25 * (k % 2) + dy, r * 1.3, r, "#ffffff", None)
    for colour, base, height, speed, period in (("#6cbf5f", 235, 46, 18, 330), ("#4da34a", 275, 34, 38, 250)):
        ridge = [(x, base - height * math.sin((x + t * speed) * 2 * math.pi / period)) for x in range(-8, WIDTH + 9, 8)]
        draw.polygon([(x * s, y * s) for x, y in [*ridge, (WIDTH, HEIGHT), (0, HEIGHT)]], colour)
        draw.line([(x * s, y * s) for x, y in ridge], INK, 3 * s)
    for k in range(4):
        x = (k * 230 + 90 - t * 75) % 860 - 90
        limb([(x, 300), (x, 235)], "#9b6a3c", 14)
        disc(x, 205, 42, 48, "#3f8f3f")
        disc(x - 14, 190, 8, 10, "#66b866", None)
    draw.rectangle([0, 308 * s, WIDTH * s, HEIGHT * s], "#e8c98a")
    draw.line([(0, 308 * s), (WIDTH * s, 308 * s)], INK, 3 * s)
    for k in range(9):
        x = (k * 90 - t * 110) % 760 - 50
        draw.rectangle([x * s, 334 * s, (x + 34) * s, 340 * s], "#cfa963")

    stride, bounce = math.sin(t * 7), 6 * abs(math.cos(t * 7))
    x, y = 285 + 12 * math.sin(t), 232 - bounce
    for sign in (-1, 1):
        limb([(x + 6 * sign, y + 40), (x + 20 * stride * sign, y + 66), (x + 30 * stride * sign, 318)], "#3a5bc7", 15)
        disc(x + 30 * stride * sign + 9, 320, 17, 9, "#5b3a1e")
    limb([(x - 20, y + 6), (x - 40 - 12 * stride, y + 30)], "#ffd2a6", 11)
    disc(x, y + 18, 31, 37, "#f2b632")
    limb([(x + 20, y + 4), (x + 50, y - 12 - 22 * math.sin(t * 5))], "#ffd2a6", 11)
    disc(x + 4, y - 48, 40, 36, "#ffd2a6")
    open_eye = 11 if (i % 40) > 3 else 2
    for dx in (4, 28):
        disc(x + dx, y - 54, 9, open_eye, "#ffffff", width=2)
        disc(x + dx + 3, y - 53, 3.5, min(5, open_eye), INK, None)
    mouth = 4 + 7 * abs(math.sin(t * 6))
    disc(x + 16, y - 29, 11, mouth, "#8c2f2f", width=2)
    draw.pieslice([(x - 40) * s, (y - 100) * s, (x + 48) * s, (y - 36) * s], 180, 360, "#d8412f", INK, 3 * s)
    limb([(x + 6, y - 68), (x + 66, y - 66)], "#d8412f", 6)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def slides(i: int) -> Image.Image:
    """Three slides of a talk: bullet points that appear, a bar chart that grows, a listing."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "#fbfbf8")
    draw = ImageDraw.Draw(image)
    page, step = divmod(i, NUM_FRAMES // 3)
    step_share = min(1.0, step / 20)

    def text(x: int, y: int, words: str, size: int, fill: str = "#222831") -> None:
        draw.text((x, y), words, fill, ImageFont.load_default(size))

    draw.rectangle([0, 0, WIDTH, 6], "#1f6feb")
    text(WIDTH - 60, HEIGHT - 26, f"{page + 1} / 3", 13, "#8a8f98")
    if page == 0:
        text(48, 36, "Video pipelines in practice", 34)
        lines = (
            "Decode close to the data",
            "Send small frames, not files",
            "Batch where the time goes",
            "Measure, then tune",
        )
        for k, line in enumerate(lines[: 1 + step // 6]):
            draw.rectangle([56, 122 + 48 * k, 66, 132 + 48 * k], "#1f6feb")
            text(84, 112 + 48 * k, line, 24)
    elif page == 1:
        text(48, 36, "Requests by quarter", 34)
        draw.line([(70, 110), (70, 300), (590, 300)], "#8a8f98", 2)
        for k, value in enumerate((62, 88, 121, 164)):
            x = 110 + 120 * k
            draw.rectangle([x, 300 - value * step_share, x + 64, 300], "#1f6feb" if k < 3 else "#2da44e")
            text(x + 18, 308, f"Q{k + 1}", 18)
            text(x + 14, int(276 - value * step_share), f"{int(value * step_share)}k", 18)
    else:
        text(48, 36, "One call", 34)
        draw.rectangle([48, 100, WIDTH - 48, 300], "#20262e")
        listing = (
            ("client = Client(url)", "#d7dde5"),
            ("answer = client.classify(path)", "#d7dde5"),
            ("print(answer.label)", "#7ee787"),
            ("# flat", "#8a8f98"),
        )
        for k, (line, colour) in enumerate(listing[: 1 + step // 6]):
            text(72, 122 + 40 * k, line, 22, colour)
    return image


def handheld(photo: Image.Image) -> Callable[[int], Image.Image]:
    """A photograph as a hand-held camera would film it: drift, shake, focus, exposure and sensor noise."""
    rng = np.random.default_rng(7)
    walk = np.cumsum(rng.normal(0, 1.0, (NUM_FRAMES, 2)), axis=0)
    walk = np.stack([np.convolve(walk[:, k], np.ones(7) / 7, mode="same") for k in (0, 1)], axis=1)
    photo = photo.convert("RGB")

    def frame(i: int) -> Image.Image:
        t = i / (NUM_FRAMES - 1)
        zoom = 0.92 - 0.22 * t + 0.01 * math.sin(i / 5)
        w = zoom * photo.width
        h = w * HEIGHT / WIDTH
        x = (photo.width - w) * (0.2 + 0.6 * t) + walk[i, 0]
        y = (photo.height - h) * 0.5 + walk[i, 1]
        x, y = float(np.clip(x, 0, photo.width - w)), float(np.clip(y, 0, photo.height - h))
        box = (x, y, x + w, y + h)
        view = photo.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
        view = view.filter(ImageFilter.GaussianBlur(max(0.0, 2.2 - i / 6)))  # the focus is found in the first second
        pixels = np.asarray(view, np.float32) * (1 + 0.05 * math.sin(i / 9)) + rng.normal(0, 4.0, (HEIGHT, WIDTH, 1))
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    return frame


def write(path: Path, draw: Callable[[int], Image.Image]) -> None:
    """Encode ``NUM_FRAMES`` pictures as H.264."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "25", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_image(draw(i))))
        container.mux(stream.encode(None))


def main() -> None:
    """Write animation_cartoon.mp4, flat_slides.mp4 and natural_handheld.mp4."""
    parser = argparse.ArgumentParser(description=main.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True, help="skimage/data/coffee.png of the scikit-image wheel")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    write(args.out / "animation_cartoon.mp4", cartoon)
    write(args.out / "flat_slides.mp4", slides)
    write(args.out / "natural_handheld.mp4", handheld(Image.open(args.photo)))


if __name__ == "__main__":
    main()
