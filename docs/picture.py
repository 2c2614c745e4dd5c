"""Draws the README's picture: the sample videos and what the model said of them.

    reelkind classify samples --jsonl --attention | python docs/picture.py --out docs/picture.jpg

Everything on it comes from the answers piped in; nothing is typed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from reelkind.video import clip as video

COLOURS = {"animation": "#d9822b", "gaming": "#7c4dbd", "natural": "#2f8f5b", "flat": "#2f6fb3"}
NUM_THUMBNAILS = 4


def main() -> None:
    """Read answers from stdin and write the picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    answers = [json.loads(line) for line in sys.stdin]
    figure, rows = plt.subplots(
        len(answers), 2, figsize=(9.6, 1.2 * len(answers)), width_ratios=[6.6, 2], squeeze=False
    )
    for (strip, bars), answer in zip(rows, answers, strict=True):
        frames = video.read_clip(answer["path"], num_frames=NUM_THUMBNAILS).frames
        wide = frames[:, np.linspace(0, frames.shape[1] - 1, 126).astype(int)]  # the square back to about 16:9
        strip.imshow(np.concatenate(list(np.pad(wide, ((0, 0), (0, 0), (0, 8), (0, 0)), constant_values=255)), axis=1))
        strip.axis("off")
        scores = answer["scores"]
        bars.barh(list(scores), list(scores.values()), color=[COLOURS[name] for name in scores], height=0.7)
        bars.set(xlim=(0, 1.18), xticks=[])
        bars.invert_yaxis()
        bars.tick_params(length=0, labelsize=8)
        bars.spines[:].set_visible(False)
        for i, value in enumerate(scores.values()):
            bars.text(value + 0.02, i, f"{value:.2f}", va="center", fontsize=8)
        bars.set_title(f"→ {answer['label']}", fontsize=10, loc="left", pad=3)
    figure.tight_layout(pad=0.4, h_pad=0.7)
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
