"""Arguments of a command to the files they name: files, folders to any depth, URLs, a list on standard input."""

from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, TextIO

from reelkind.video.names import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS

from ..output.talk import say
from .arguments import positive, seconds

if TYPE_CHECKING:
    from reelkind.video.fetching import Fetcher

STDIN = "-"
MAX_FETCHED_MB, FETCH_TIMEOUT_S = 4096, 600.0
_BLOCK_BYTES = 1 << 16
_MAX_NAMED = 3  # of linked folders


@dataclass(frozen=True)
class Input:
    """A file to classify, or with ``problem`` set something that cannot be.

    Attributes:
        path: as the user knows it; perhaps a URL.
        name: its path below the folder that was searched; of a file that was named, the last part.
        problem: why it cannot be.
    """

    path: str
    name: str = field(default="", compare=False)
    problem: str | None = None


class PassedOver:
    """What is in the folders searched and is not taken.

    Args:
        pictures: whether the command has the option ``--pictures``.
    """

    def __init__(self, *, pictures: bool = True) -> None:
        self._pictures = pictures
        self.links: list[str] = []  # to folders, which may lead round in circles
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count a file."""
        self._counts["picture" if _extension(name) in PICTURE_EXTENSIONS else "other file"] += 1

    def say(self) -> None:
        """One sentence on stderr, if there is anything."""
        parts = [f"{count} {name}{'s' * (count > 1)}" for name, count in sorted(self._counts.items(), reverse=True)]
        if self._counts["picture"] and self._pictures:
            parts[0] += " (--pictures takes them)"
        if self.links:
            named = ", ".join(self.links[:_MAX_NAMED]) + (", ..." if len(self.links) > _MAX_NAMED else "")
            parts.append(f"{len(self.links)} linked folder{'s' * (len(self.links) > 1)} (name what you want: {named})")
        if parts:
            say(f"passed over in folders: {', '.join(parts)}")


def add_arguments(parser: argparse.ArgumentParser, paths: str, *, pictures: bool = True) -> None:
    """Options of commands that take files, whose kinds ``paths`` names in --help; pictures among them, or not."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help=f"{paths}; folder, searched to any depth; - for stdin")
    parser.add_argument(
        "-0", "--null", action="store_true", help="paths on stdin end with a null byte, as those of find -print0"
    )
    parser._has_negative_number_optionals.clear()  # because of -0, argparse would take no number below 0 any more
    if pictures:
        parser.add_argument("--pictures", action="store_true", help="take still pictures from folders, too")
    parser.add_argument(
        "--fetch-limit",
        type=positive,
        default=MAX_FETCHED_MB,
        metavar="MB",
        help="refuse files behind URLs that are larger (default: %(default)s)",
    )
    parser.add_argument(
        "--fetch-timeout",
        type=seconds,
        default=FETCH_TIMEOUT_S,
        metavar="S",
        help="seconds that fetching one may take (default: %(default)g)",
    )


def fetcher(args: argparse.Namespace, stack: ExitStack) -> Fetcher:
    """What fetches URLs, by the options of ``add_arguments``; closed with ``stack``."""
    from reelkind.video.fetching import Fetcher

    fetching = Fetcher(args.fetch_limit * 1_000_000, args.fetch_timeout)
    stack.callback(fetching.close)
    return fetching


@contextmanager
def on_disk(item: Input, fetching: Fetcher) -> Iterator[str]:
    """The path of an input, which of a URL is that of a temporary file; what goes wrong bears the name the user knows.

    Raises:
        VideoError: if it has a ``problem`` or cannot be fetched.
    """
    from reelkind.core.errors import VideoError
    from reelkind.core.features import FeaturesError
    from reelkind.video.fetching import is_remote, local_path

    if item.problem is not None:
        raise VideoError(item.path, item.problem)
    if not is_remote(item.path) or os.path.exists(item.path):  # noqa: PTH110 (pathlib refuses null bytes)
        yield local_path(item.path)
        return
    say(f"fetching {item.path}")
    with fetching.file(item.path) as path:
        try:
            yield path
        except VideoError as error:
            raise VideoError(item.path, error.reason) from error
        except FeaturesError as error:
            raise FeaturesError(error.reason, item.path) from error


def expand(
    arguments: Sequence[str],
    stdin: TextIO,
    passed_over: PassedOver,
    *,
    null: bool = False,
    features: bool = True,
    pictures: bool = False,
) -> list[Input] | Iterator[Input]:
    """Files in the order of the arguments, those of a folder sorted, each as often as named.

    Args:
        arguments: paths of files and folders, URLs, and ``STDIN``.
        stdin: where ``STDIN`` stands for: a path a line, read as far as they are asked for.
        passed_over: told of what folders hold besides.
        null: whether a null byte ends a path there, and not a line.
        features: whether folders give features files too, except those beside their videos.
        pictures: whether folders give still pictures too.

    Returns:
        A list, or of standard input an iterator of at least one, which may be endless; empty if nothing was named.
    """
    folders = _Folders(passed_over, arguments, features=features, pictures=pictures)
    found = chain.from_iterable(
        _from_list(stdin, b"\0" if null else b"\n", folders) if argument == STDIN else _from_path(argument, folders)
        for argument in arguments
    )
    if STDIN not in arguments:
        return list(found)
    first = next(found, None)
    return [] if first is None else chain([first], found)


def is_hopeless(inputs: list[Input] | Iterator[Input]) -> bool:
    """Whether there is nothing among them that a server could be asked about."""
    return isinstance(inputs, list) and all(item.problem is not None for item in inputs)


def _from_list(stdin: TextIO, end: bytes, folders: _Folders) -> Iterator[Input]:
    stream = getattr(stdin, "buffer", None) or io.BytesIO(os.fsencode(stdin.read()))  # file names are bytes
    for name in _split(stream, end):
        if name:
            yield from _from_path(os.fsdecode(name), folders)


def _split(stream: io.BufferedReader | io.BytesIO, end: bytes) -> Iterator[bytes]:
    rest = b""
    while block := stream.read1(_BLOCK_BYTES):
        *names, rest = (rest + block).split(end)
        yield from names
    yield rest


def _from_path(path: str, folders: _Folders) -> Iterator[Input]:
    if os.path.isdir(path):  # noqa: PTH112 (pathlib would drop a leading ./ and refuse null bytes)
        yield from folders.search(path)
    elif "://" in path and not os.path.lexists(path):
        yield _from_url(path)
    else:
        yield Input(path, os.path.basename(path), _why_missing(path))  # noqa: PTH119


def _from_url(url: str) -> Input:
    from reelkind.video.fetching import file_name, is_remote, local_path, why_never

    if is_remote(url):
        return Input(url, file_name(url), why_never(url))
    path = local_path(url)
    return Input(url, os.path.basename(path), _why_missing(path))  # noqa: PTH119


def _why_missing(path: str) -> str | None:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such file"
    except OSError:  # whatever it is: who opens it can say more
        return None
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        return f"is a link to {os.readlink(path)}, which is not there"  # noqa: PTH115
    return None


class _Folders:
    """Searches folders for what a command takes."""

    def __init__(self, passed_over: PassedOver, named: Sequence[str], *, features: bool, pictures: bool) -> None:
        self._passed_over = passed_over
        self._named = {os.path.normpath(argument) for argument in named}
        self._features = features
        self._extensions = VIDEO_EXTENSIONS | PICTURE_EXTENSIONS if pictures else VIDEO_EXTENSIONS

    def search(self, folder: str) -> Iterator[Input]:
        """What is below a folder, and at the end what could not be looked into."""
        problems: list[Input] = []
        found = False
        for file in self._files_below(folder, problems):
            found = True
            yield Input(file, os.path.relpath(file, folder), _why_missing(file))
        if not found and not problems:
            what = "videos or features files" if self._features else "videos"
            problems.append(Input(folder, problem=f"no {what} in this folder"))
        yield from problems

    def _files_below(self, folder: str, problems: list[Input]) -> Iterator[str]:
        from reelkind.core.files.features_files import SUFFIX  # NumPy

        def unreadable(error: OSError) -> None:
            problems.append(Input(str(error.filename), problem=f"cannot look into this folder: {error.strerror}"))

        for place, folders, files in os.walk(folder, onerror=unreadable):
            folders.sort()
            paths = (os.path.join(place, name) for name in folders)  # noqa: PTH118
            links = filter(os.path.islink, paths)
            self._passed_over.links += (link for link in links if os.path.normpath(link) not in self._named)
            videos = {name for name in files if _extension(name) in self._extensions}
            features = {name for name in files if name.endswith(SUFFIX)}
            alone = {name for name in features if self._features and name.removesuffix(SUFFIX) not in videos}
            for name in set(files) - videos - features:
                self._passed_over.add(name)
            for name in sorted(videos | alone):
                yield os.path.join(place, name)  # noqa: PTH118


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (names that are no text)
