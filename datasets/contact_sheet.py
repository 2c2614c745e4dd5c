"""Findings to one picture of the files in question, for a person to decide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelkind.core.errors import VideoError

from .exclusions import Finding, Reason
from .inspection import Read

CELL_PX = 128
TEXT_PX = 13
TEXT_WIDTH_PX = 620
MARGIN_PX = 6
NUM_PICTURES = 3  # of a video
MAX_ROWS = 80
_SHOWN = (Reason.LEAK, Reason.MISLABELLED, Reason.DUPLICATE, Reason.HASH_MISMATCH, Reason.NEAR_DUPLICATE)
"""What a look can settle, in the order of the rows."""


def draw_contact_sheet(findings: Sequence[Finding], read: Read, folder: Path) -> tuple[Image.Image | None, int]:
    """A row a finding: pictures of the file, of the one it is compared with, and what was found.

    Args:
        findings: of any reason; those a look cannot settle are left out, and all beyond ``MAX_ROWS``.
        read: decodes.
        folder: names are shown relative to it.

    Returns:
        The sheet, None if there is nothing to show, and the number of findings that did not fit.
    """
    shown = sorted((f for f in findings if f.reason in _SHOWN), key=lambda f: _SHOWN.index(f.reason))
    if not shown:
        return None, 0
    rows = [_row(finding, read, folder) for finding in shown[:MAX_ROWS]]
    return Image.fromarray(np.concatenate(rows)), max(0, len(shown) - MAX_ROWS)


def _row(finding: Finding, read: Read, folder: Path) -> np.ndarray:
    strip = NUM_PICTURES * CELL_PX
    image = Image.new("RGB", (2 * (strip + MARGIN_PX) + TEXT_WIDTH_PX, CELL_PX + MARGIN_PX), "white")
    image.paste(_pictures(finding.path, read), (0, 0))
    if isinstance(finding.other, Path):
        image.paste(_pictures(finding.other, read), (strip + MARGIN_PX, 0))
    lines = [finding.reason.value, finding.detail, _name(finding.path, folder)]
    if isinstance(finding.other, Path):
        lines.append(_name(finding.other, folder))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT_PX)
    for number, line in enumerate(lines):
        place = (2 * (strip + MARGIN_PX), MARGIN_PX + number * (TEXT_PX + MARGIN_PX))
        draw.text(place, line.encode("ascii", "backslashreplace").decode(), "black", font)
    return np.asarray(image)


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _pictures(path: Path, read: Read) -> Image.Image:
    """Frames side by side; grey where the file cannot be read."""
    strip = Image.new("RGB", (NUM_PICTURES * CELL_PX, CELL_PX), "grey")
    try:
        frames = read(path, NUM_PICTURES).frames
    except VideoError:
        return strip
    for number, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((CELL_PX, CELL_PX)), (number * CELL_PX, 0))
    return strip
