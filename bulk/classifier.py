"""What an actor does: URIs in, rows out, decoding in a process of its own and asking the servers."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reelkind.client import Client, ProcessDecoder, RequestRejected, VideoError
from reelkind.core.features import FeaturesError

from . import rows
from .fetching import fetched
from .node_servers import NodeServers, address

if TYPE_CHECKING:
    import pyarrow as pa

IN_FLIGHT = 3  # one is fetched and one is being answered while another is decoded


@dataclass(frozen=True)
class Task:
    """What is wanted of each input.

    Attributes:
        server: address of whom to ask, or what each node has to serve.
        client_options: of ``Client``, without decoder.
        decoder_options: of ``ProcessDecoder``, without the number of workers.
        folder: what relative paths are relative to.
        timeline: whether segments are wanted, which takes reading the whole video.
        embedding: whether embeddings are.
    """

    server: str | NodeServers
    client_options: Mapping[str, Any]
    decoder_options: Mapping[str, Any]
    folder: str
    timeline: bool = False
    embedding: bool = False


class Classifier:
    """Lives in an actor of Ray as long as the job does; several threads may call it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._server = task.server.here() if isinstance(task.server, NodeServers) else None
        url = task.server if isinstance(task.server, str) else address(self._server)
        decoder = ProcessDecoder(1, **task.decoder_options)
        self._client = Client(url, decoder=decoder, **task.client_options)
        self._threads = ThreadPoolExecutor(IN_FLIGHT)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Rows, with the columns of ``rows.wire_schema``, of a batch with the column ``uri``, in its order."""
        import pyarrow as pa

        done = self._threads.map(self._row, batch.column("uri").to_pylist())
        return pa.Table.from_pylist(list(done), schema=rows.wire_schema())

    def _row(self, uri: str) -> rows.Row:
        """What becomes of one input; only what blames the input itself is an error row."""
        sha256 = None
        try:
            with fetched(uri, self._task.folder) as file:
                sha256 = file.sha256
                answer = self._client.classify(file.path)
                timeline = self._client.timeline(file.path) if self._task.timeline else None
                return rows.answered(uri, sha256, answer, timeline, embedding=self._task.embedding)
        except (VideoError, FeaturesError, RequestRejected) as error:
            return rows.failed(uri, sha256, error)
        except Exception as error:  # a server that is gone, a disk that is full: the other inputs go on
            return rows.unanswered(uri, error)
