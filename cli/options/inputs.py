"""Arguments of a command to the files they name: files, folders to any depth, a list on standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TextIO

from reelkind.core.files.features_files import SUFFIX
from reelkind.video.names import VIDEO_EXTENSIONS

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """A file to classify, or with ``problem`` set something that cannot be.

    Attributes:
        path: as the user knows it.
        name: its path below the folder that was searched; of a file that was named, the last part.
        problem: why it cannot be.
    """

    path: str
    name: str = field(default="", compare=False)
    problem: str | None = None


def expand(arguments: Sequence[str], stdin: TextIO, *, features: bool = True) -> list[Input] | Iterator[Input]:
    """Files in the order of the arguments, those of a folder sorted, each as often as named.

    Args:
        arguments: paths of files and folders, and ``STDIN``.
        stdin: where ``STDIN`` stands for: a path a line, read as far as they are asked for.
        features: whether folders give features files too, except those beside their videos.

    Returns:
        A list, or of standard input an iterator of at least one, which may be endless; empty if nothing was named.
    """
    found = chain.from_iterable(
        _from_list(stdin, features=features) if argument == STDIN else _from_path(argument, features=features)
        for argument in arguments
    )
    if STDIN not in arguments:
        return list(found)
    first = next(found, None)
    return [] if first is None else chain([first], found)


def _from_list(stdin: TextIO, *, features: bool) -> Iterator[Input]:
    stream = getattr(stdin, "buffer", None)  # file names are bytes; text mode would refuse some
    for line in stream if stream is not None else stdin:
        path = os.fsdecode(line).rstrip("\n")
        if path:
            yield from _from_path(path, features=features)


def _from_path(path: str, *, features: bool) -> Iterator[Input]:
    if not os.path.isdir(path):  # noqa: PTH112 (pathlib would drop a leading ./ and refuse null bytes)
        yield Input(path, os.path.basename(path))  # noqa: PTH119
        return
    problems: list[Input] = []
    found = False
    for file in _files_below(path, problems, features=features):
        found = True
        yield Input(file, os.path.relpath(file, path))
    if not found and not problems:
        what = "videos or features files" if features else "videos"
        problems.append(Input(path, problem=f"no {what} in this folder"))
    yield from problems


def _files_below(folder: str, problems: list[Input], *, features: bool) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        problems.append(Input(str(error.filename), problem=f"cannot look into this folder: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        videos = {name for name in files if os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS}  # noqa: PTH122
        alone = {name for name in files if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in videos}
        for name in sorted(videos | alone if features else videos):
            yield os.path.join(place, name)  # noqa: PTH118
