"""One line from a program to answers: the server that is there, or one for as long as the program wants it.

>>> import reelkind
>>> with reelkind.open() as model:
...     print(model("samples/natural_handheld.mp4").label)
natural
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

from reelkind import client as clients
from reelkind.client import Client, Failure, Prediction, ServerUnavailable, Timeline
from reelkind.core import bundle as bundles
from reelkind.core.errors import InvalidOption
from reelkind.core.specs import ALL_MEMBERS

from . import embedded

URL_VARIABLE = "REELKIND_URL"


class Model:
    """What answers; made by `open`, closed by its ``with`` block or ``close()``.

    Attributes:
        client: all that can be asked, see ``reelkind.Client``.
    """

    def __init__(self, client: Client, stack: ExitStack) -> None:
        self.client = client
        self._stack = stack

    def __call__(self, video: str | os.PathLike[str]) -> Prediction:
        """Classify one file; errors as ``Client.classify``."""
        return self.client.classify(video)

    def many(self, videos: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction | Failure]:
        """Classify any number of files, in their order; what cannot be read is a ``Failure`` in its place."""
        return self.client.classify_many(videos)

    def timeline(self, video: str | os.PathLike[str]) -> Timeline:
        """What a long video is, from when to when; errors as ``Client.timeline``."""
        return self.client.timeline(video)

    def close(self) -> None:
        """Let the client go, and end the server if it was started for this."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open(
    url: str | None = None,
    *,
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    member: str | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Model:
    """The server at ``url``, else that at the default address, else one of this process.

    A server of this process takes seconds to start (minutes the very first time, when about 100 MB are fetched) and
    ends with the model.

    Args:
        url: whom to ask; by default ``$REELKIND_URL``, then 127.0.0.1:8001.
        bundle: folder of a bundle, or several that answer together; always served by this process.
        member: who answers; by default the server's first.
        progress: called with one line at each slow step.
        **options: of ``Client``, as ``tta``, ``timeout_s``, ``abstain``, ``cache``.

    Raises:
        ReelkindError: if a server was named and does not answer, or none can be started.
    """
    folders = [bundle] if isinstance(bundle, str | os.PathLike) else list(bundle)
    with ExitStack() as stack:
        client = find_or_start(url, folders, stack, member=member, progress=progress, **options)
        return Model(client, stack.pop_all())


def find_or_start(
    url: str | None,
    folders: Sequence[str | os.PathLike[str]],
    stack: ExitStack,
    *,
    member: str | None = None,
    models: Collection[str] | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Client:
    """A client of the server named, else of the one at the default address, else of one that is started.

    Args:
        url: an address; None for ``$REELKIND_URL``, which counts only where no folders are named.
        folders: bundles that a server is started for, whatever runs elsewhere.
        stack: closes what is opened.
        member: who answers; None for the server's first, or for all of several folders together.
        models: names of those that a started server needs, see ``core.specs``; by default all there are.
        progress: called with one line at each slow step.
        **options: of ``Client``.

    Raises:
        InvalidOption: if a member is wanted that the folders have not, or encryption of a server of this process.
        ReelkindError: if a server was named and does not answer; no other is put in its place.
    """
    wanted = member or (ALL_MEMBERS if len(folders) > 1 else None)
    options = {**options, "member": wanted}
    named = None if folders else url or os.environ.get(URL_VARIABLE)
    if named:
        return stack.enter_context(clients.Client(named, **options))
    if options.get("tls"):
        raise InvalidOption("encryption is for a server elsewhere: name it with --url")
    say = progress or (lambda sentence: None)
    if not folders:
        client = stack.enter_context(clients.Client(clients.DEFAULT_URL, **options))
        try:
            client.server_info()
        except ServerUnavailable:
            say(f"no server at {clients.DEFAULT_URL}: starting one for this run (`reelkind serve` keeps one running)")
        else:
            return client
    chosen = list(folders) or [embedded.packaged_bundle(member)]
    _check_member(wanted, chosen)
    server = stack.enter_context(embedded.embedded_server(chosen, ensembles=models, progress=progress))
    return stack.enter_context(clients.Client(server.url, **options))


def _check_member(wanted: str | None, folders: Sequence[str | os.PathLike[str]]) -> None:
    """Complain, before a server is started, of a member that it would not have."""
    members = [bundles.load(folder).name for folder in folders]
    if wanted not in (None, *members, *([ALL_MEMBERS] if len(members) > 1 else [])):
        raise InvalidOption(
            f"a server for this run has only {', '.join(members)}, not {wanted}: add others by --bundle"
        )
