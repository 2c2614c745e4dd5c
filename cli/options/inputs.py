"""Arguments of a command to the files they name: files, folders to any depth, a list on standard input."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TextIO

from reelkind.video.names import VIDEO_EXTENSIONS

STDIN = "-"
_BLOCK_BYTES = 1 << 16


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


def add_arguments(parser: argparse.ArgumentParser, paths: str) -> None:
    """Options of commands that take files, whose kinds ``paths`` names in --help."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help=paths)
    parser.add_argument(
        "-0", "--null", action="store_true", help="paths on stdin end with a null byte, as those of find -print0"
    )
    parser._has_negative_number_optionals.clear()  # because of -0, argparse would take no number below 0 any more


def expand(
    arguments: Sequence[str], stdin: TextIO, *, null: bool = False, features: bool = True
) -> list[Input] | Iterator[Input]:
    """Files in the order of the arguments, those of a folder sorted, each as often as named.

    Args:
        arguments: paths of files and folders, and ``STDIN``.
        stdin: where ``STDIN`` stands for: a path a line, read as far as they are asked for.
        null: whether a null byte ends a path there, and not a line.
        features: whether folders give features files too, except those beside their videos.

    Returns:
        A list, or of standard input an iterator of at least one, which may be endless; empty if nothing was named.
    """
    found = chain.from_iterable(
        _from_list(stdin, b"\0" if null else b"\n", features=features)
        if argument == STDIN
        else _from_path(argument, features=features)
        for argument in arguments
    )
    if STDIN not in arguments:
        return list(found)
    first = next(found, None)
    return [] if first is None else chain([first], found)


def is_hopeless(inputs: list[Input] | Iterator[Input]) -> bool:
    """Whether there is nothing among them that a server could be asked about."""
    return isinstance(inputs, list) and all(item.problem is not None for item in inputs)


def _from_list(stdin: TextIO, end: bytes, *, features: bool) -> Iterator[Input]:
    stream = getattr(stdin, "buffer", None) or io.BytesIO(os.fsencode(stdin.read()))  # file names are bytes
    for name in _split(stream, end):
        if name:
            yield from _from_path(os.fsdecode(name), features=features)


def _split(stream: io.BufferedReader | io.BytesIO, end: bytes) -> Iterator[bytes]:
    rest = b""
    while block := stream.read1(_BLOCK_BYTES):
        *names, rest = (rest + block).split(end)
        yield from names
    yield rest


def _from_path(path: str, *, features: bool) -> Iterator[Input]:
    if not os.path.isdir(path):  # noqa: PTH112 (pathlib would drop a leading ./ and refuse null bytes)
        yield Input(path, os.path.basename(path), "no such file" if _is_missing(path) else None)  # noqa: PTH119
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


def _is_missing(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:  # whatever it is: who opens it can say more
        return False
    return False


def _files_below(folder: str, problems: list[Input], *, features: bool) -> Iterator[str]:
    from reelkind.core.files.features_files import SUFFIX  # NumPy

    def unreadable(error: OSError) -> None:
        problems.append(Input(str(error.filename), problem=f"cannot look into this folder: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        videos = {name for name in files if os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS}  # noqa: PTH122
        alone = {name for name in files if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in videos}
        for name in sorted(videos | alone if features else videos):
            yield os.path.join(place, name)  # noqa: PTH118
