"""Arguments of a command to the files they name: files, folders to any depth, a list on standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

STDIN = "-"

_EXTENSIONS = """
    3g2 3gp asf avi divx f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mj2 mjpeg mkv mov mp4
    mpe mpeg mpg mts mxf nut ogm ogv qt rm rmvb ts vob webm wmv y4m
"""
VIDEO_EXTENSIONS = frozenset(f".{name}" for name in _EXTENSIONS.split())
"""What is taken from a folder; a file that is named is tried whatever it is called."""


@dataclass(frozen=True)
class Input:
    """A file to classify, or with ``problem`` set something that cannot be."""

    path: str
    problem: str | None = None


def expand(arguments: Iterable[str], stdin: TextIO) -> Iterator[Input]:
    """Files in the order of the arguments, those of a folder sorted, each as often as named; read lazily."""
    for argument in arguments:
        if argument == STDIN:
            yield from _from_list(stdin)
        else:
            yield from _from_path(argument)


def _from_list(stdin: TextIO) -> Iterator[Input]:
    stream = getattr(stdin, "buffer", None)  # file names are bytes; text mode would refuse some
    for line in stream if stream is not None else stdin:
        path = os.fsdecode(line).rstrip("\n")
        if path:
            yield from _from_path(path)


def _from_path(path: str) -> Iterator[Input]:
    if not os.path.isdir(path):  # noqa: PTH112 (pathlib would drop a leading ./ and refuse null bytes)
        yield Input(path)
        return
    problems: list[Input] = []
    found = False
    for file in _videos_below(path, problems):
        found = True
        yield Input(file)
    if not found and not problems:
        problems.append(Input(path, "no video files in this folder; name features files themselves"))
    yield from problems


def _videos_below(folder: str, problems: list[Input]) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        problems.append(Input(str(error.filename), f"cannot look into this folder: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS:  # noqa: PTH122
                yield os.path.join(place, name)  # noqa: PTH118
