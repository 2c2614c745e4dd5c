"""Timelines to a picture: an SVG with a strip a video, written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from reelkind.client import Timeline
from reelkind.core.files.whole_files import write_whole
from reelkind.core.taxonomy.classes import CLASSES

from .report import printable
from .timeline_report import clock

COLOURS = dict(zip(CLASSES, ("#b5497f", "#c8553d", "#3f7d4e", "#3a6ea5"), strict=True))
NO_LABEL_COLOUR = "#c8c8c8"
MAX_CHARS = 90  # of a path; then the verdict on the right still has its place
WIDTH, MARGIN, ROW, STRIP = 960, 20, 64, 24  # pixels


def write(timelines: Sequence[Timeline], path: Path) -> None:
    """Draw timelines below each other, all to the same scale of time.

    Raises:
        OSError: if the file cannot be written.
    """
    write_whole(path, "\n".join(_lines(timelines)))


def _lines(timelines: Sequence[Timeline]) -> Iterator[str]:
    height = 2 * MARGIN + ROW * len(timelines) + STRIP
    longest_ms = max((timeline.duration_ms for timeline in timelines), default=0) or 1
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    for number, timeline in enumerate(timelines):
        yield from _row(timeline, MARGIN + ROW * number, (WIDTH - 2 * MARGIN) / longest_ms)
    yield from _legend(MARGIN + ROW * len(timelines))
    yield "</svg>\n"


def _row(timeline: Timeline, top: int, px_per_ms: float) -> Iterator[str]:
    what = f"{clock(timeline.duration_ms)}  {timeline.label or 'no label'}{', mixed' if timeline.mixed else ''}"
    yield f'<text x="{MARGIN}" y="{top + 12}">{_text(timeline.path)}</text>'
    yield f'<text x="{WIDTH - MARGIN}" y="{top + 12}" text-anchor="end">{what}</text>'
    for segment in timeline.segments:
        left, width = MARGIN + segment.start_ms * px_per_ms, (segment.end_ms - segment.start_ms) * px_per_ms
        colour = COLOURS.get(segment.label or "", NO_LABEL_COLOUR)
        told = f"{clock(segment.start_ms)} .. {clock(segment.end_ms)} {segment.label or 'no label'}"
        yield (
            f'<rect x="{left:.2f}" y="{top + 18}" width="{width:.2f}" height="{STRIP}" fill="{colour}">'
            f"<title>{told} {segment.confidence:.0%}</title></rect>"
        )


def _legend(top: int) -> Iterator[str]:
    for number, (name, colour) in enumerate([*COLOURS.items(), ("no label", NO_LABEL_COLOUR)]):
        left = MARGIN + 110 * number
        yield f'<rect x="{left}" y="{top}" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{left + 18}" y="{top + 11}">{name}</text>'


def _text(text: str) -> str:
    text = printable(text)
    return escape(text if len(text) <= MAX_CHARS else "…" + text[1 - MAX_CHARS :])  # the end says more
